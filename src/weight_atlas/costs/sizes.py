"""Sizes of a model that its forward passes cost by: from its configuration and the headers of its tensors."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.checkpoint.source import HubSource, parse_source
from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.inventory import inventory
from weight_atlas.families.roles import MATRIX_ROLES, Role

if TYPE_CHECKING:
    import pandas as pd

# What a token passes once, not by a product with it.
_LOOKED_UP = (Role.W_E, Role.W_POS, Role.W_TYPE, Role.W_U, Role.SSM_CONV, Role.SSM_A, Role.SSM_D)


@dataclass(frozen=True)
class Sizes:
    """Of the decoder of a model.

    layers; context: longest sequence, None where the configuration does not say. products: weights of the layers'
    matrices that one token is multiplied with, experts that it does not pass left out. widths: outputs of these
    matrices for one token. queries: n_heads x head_dim, summed over layers. heads: query heads, summed over layers.
    d_model; vocabulary; stored: parameters in all; matrices: weights of the layers' matrices in all.
    """

    layers: int
    context: int | None
    products: float
    widths: float
    queries: int
    heads: int
    d_model: int
    vocabulary: int
    stored: int
    matrices: int

    @property
    def depth(self) -> int:
        """The number of layers, at least one."""
        return max(1, self.layers)


def sizes_of(checkpoint: Checkpoint, table: "pd.DataFrame | None" = None) -> Sizes:
    """The sizes of a checkpoint, of which no values are read. table: its inventory, if it is there already."""
    rows = inventory(checkpoint, allow_other=True) if table is None else table
    quantities = Architecture.of(checkpoint, allow_other=True).quantities
    own = rows[(rows["stack"] == "decoder") & (rows["parameters"] > 0)]
    inside = own[own["layer"].notna() & own["role"].isin(map(str, MATRIX_ROLES)) & ~own["role"].isin(_LOOKED_UP)]
    experts = inside["expert"].notna()
    number, passed = quantities.of("n_experts"), quantities.of("n_experts_per_token")
    share = experts.map({True: passed / number if number and passed else 1.0, False: 1.0})
    heads = inside[inside["role"].isin([Role.W_Q, Role.W_Q_B])]
    embedding, head = own[own["role"] == Role.W_E], own[own["role"] == Role.W_U]
    head = head if len(head) else embedding
    if inside.empty or head.empty:
        raise AtlasError("the tensors do not say what a forward pass costs", where=checkpoint.folder)
    return Sizes(
        layers=int(inside["layer"].nunique()),
        context=Architecture.of(checkpoint, allow_other=True).context,
        products=float((inside["parameters"] * share).sum()),
        widths=float((inside["rows"] * share).sum()),
        queries=int((heads["n_heads"] * heads["head_dim"]).sum()),
        heads=int(heads["n_heads"].sum()),
        d_model=int(head["cols"].iloc[0]),
        vocabulary=int(head["rows"].max()),
        stored=int(rows.loc[rows["tied_to"] == "", "parameters"].sum()),
        matrices=int(inside["parameters"].sum()),
    )


def known_sizes(spec: dict, manifest: Path, listed: Path) -> Sizes | None:
    """The sizes of a model of the configuration, None for one of the hub that is not here yet.

    spec: its entry. manifest, listed: where its manifest and its inventory are once they are made.
    """
    if manifest.is_file():
        return sizes_of(open_checkpoint(manifest), _read(listed))
    source = parse_source(spec["source"])
    if isinstance(source, HubSource):
        return None
    keys = ("family", "key", "prefix", "allow_other")
    return sizes_of(Checkpoint.from_folder(source.folder, source.file, **{key: spec[key] for key in keys}))


def _read(listed: Path) -> "pd.DataFrame | None":
    from weight_atlas.artifacts import read_table

    return read_table(listed) if listed.is_file() else None
