"""The attention heads of a model compared with each other, layer by layer: tables of heads, pairs and layers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from weight_atlas.embeddings.clusters import Tree, clusters_of, tree_of
from weight_atlas.embeddings.similarity import Likeness, likeness
from weight_atlas.errors import NotApplicable
from weight_atlas.inventory_row import Load
from weight_atlas.settings.embeddings import HeadSimilarity
from weight_atlas.spectra.attention_factors import CIRCUITS, attention_blocks
from weight_atlas.spectra.choice import choose_matrices

HEADS = {
    "stack": "str", "layer": "Int64", "component": "str", "circuit": "str", "head": "Int64", "kv_head": "Int64",
    "cluster": "Int64", "cluster_size": "Int64", "nearest": "Int64", "nearest_cosine": "float64",
    "nearest_cosine_null": "float64", "mean_cosine": "float64", "mean_cosine_null": "float64", "joins_at": "float64",
    "label": "str",
}  # fmt: skip
LAYERS = {
    "stack": "str", "layer": "Int64", "component": "str", "circuit": "str", "heads": "Int64", "status": "str",
    "clusters": "Int64", "clustered": "Int64", "isolated": "Int64", "clusteredness": "float64",
    "clusteredness_null": "float64", "clusteredness_null_high": "float64", "cophenetic": "float64",
    "mean_distance": "float64", "mean_distance_null": "float64",
}  # fmt: skip
# The distance of unrelated heads.
UNRELATED = 2**0.5
TOO_FEW = "fewer than two heads with a finite kernel other than 0"


@dataclass(frozen=True)
class Layer:
    """One attention module and circuit: place (stack, layer, component, circuit), its heads compared, their tree.

    found, tree: None where there are fewer than two heads to compare; status says why.
    """

    place: dict[str, Any]
    status: str
    found: Likeness | None = None
    tree: Tree | None = None


def compared_layers(matrices: pd.DataFrame, load: Load) -> list[Layer]:
    """Every attention module of a model and both circuits; NotApplicable for a model without attention heads.

    matrices: rows of an inventory; load(row) gives the tensor (out, in).
    """
    layers = list(_compared(matrices, load))
    if all(layer.found is None for layer in layers):
        reasons = ", ".join(dict.fromkeys(layer.status for layer in layers))
        raise NotApplicable(f"the model has no attention heads to compare{reasons and f': {reasons}'}")
    return layers


def _compared(matrices: pd.DataFrame, load: Load) -> Iterator[Layer]:
    for block in attention_blocks(matrices):
        for circuit in CIRCUITS:
            place = {"stack": block.stack, "layer": block.layer, "component": block.component, "circuit": circuit}
            if reason := block.missing(circuit):
                yield Layer(place, reason)
                continue
            found = likeness(block, circuit, load)
            yield Layer(place, "ok", found, tree_of(found)) if found else Layer(place, TOO_FEW)


def head_table(layers: list[Layer], least: float) -> pd.DataFrame:
    """A row for each head: its cluster, and the head that is most like it.

    least: mean cosine within a cluster. cluster: its number in the layer, missing for a head in none. nearest_cosine:
    the largest cosine with another head; its null: what the largest of as many Gaussian ones is in one layer of a
    hundred. mean_cosine: with all others. joins_at: height at which it joins the tree. label: clustered, or isolated.
    """
    rows = [row for layer in layers if layer.found for row in _heads(layer, layer.found, layer.tree, least)]
    return pd.DataFrame(rows, columns=list(HEADS)).astype(HEADS)


def _heads(layer: Layer, found: Likeness, tree: Any, least: float) -> Iterator[dict[str, Any]]:
    clusters = clusters_of(tree, least)
    others = found.cosines - np.diag(np.full(len(found.head), np.inf))
    count = len(found.head)
    level = float(ndtri(0.99 ** (1 / (count * (count - 1) / 2))))
    joins = {int(leaf): float(step[2]) for step in tree.linkage for leaf in step[:2] if leaf < count}
    for place, head in enumerate(found.head):
        nearest = int(others[place].argmax())
        own = clusters[place]
        yield {
            **layer.place,
            "head": head,
            "kv_head": found.kv_head[place],
            "cluster": None if own < 0 else own,
            "cluster_size": None if own < 0 else int((clusters == own).sum()),
            "nearest": found.head[nearest],
            "nearest_cosine": others[place, nearest],
            "nearest_cosine_null": level * np.delete(found.chance[place], place).max(),
            "mean_cosine": np.delete(found.cosines[place], place).mean(),
            "mean_cosine_null": 0.0,
            "joins_at": joins[place],
            "label": "isolated" if own < 0 else "clustered",
        }


def layer_table(layers: list[Layer], heads: pd.DataFrame) -> pd.DataFrame:
    """A row for each attention module and circuit: how clustered its heads are, beside Gaussian heads.

    heads: of head_table. clusters, clustered, isolated: how many clusters, heads in one, heads in none. See Tree for
    clusteredness and cophenetic. mean_distance: over all pairs, beside sqrt 2, that of unrelated heads.
    """
    keys = list(layers[0].place) if layers else []
    labels = heads.groupby(keys, sort=False)
    rows = []
    for layer in layers:
        row: dict[str, Any] = {**layer.place, "status": layer.status}
        if layer.found and layer.tree:
            own = labels.get_group(tuple(layer.place.values()))
            apart = layer.found.distances[np.triu_indices(len(own), 1)]
            row |= {
                "heads": len(own),
                "clusters": own["cluster"].nunique(),
                "clustered": int((own["label"] == "clustered").sum()),
                "isolated": int((own["label"] == "isolated").sum()),
                "clusteredness": layer.tree.clusteredness,
                "clusteredness_null": layer.tree.null,
                "clusteredness_null_high": layer.tree.null_high,
                "cophenetic": layer.tree.cophenetic,
                "mean_distance": apart.mean(),
                "mean_distance_null": UNRELATED,
            }
        rows.append(row)
    return pd.DataFrame(rows, columns=list(LAYERS)).astype(LAYERS)


def chosen_layers(layers: list[Layer], choices: list[str]) -> list[Layer]:
    """Of the compared layers those that are chosen: each a number (negative: from the end), first, middle or last."""
    compared = [layer for layer in layers if layer.found]
    table = pd.DataFrame({"role": "layer", "layer": [layer.place["layer"] for layer in compared], "expert": None})
    table = table.drop_duplicates().assign(id=lambda rows: rows["layer"])
    numbers = choose_matrices(table, [f"layer:{choice}" for choice in choices])["layer"].tolist()
    return [layer for number in numbers for layer in compared if layer.place["layer"] == number]


def weights_of(matrices: pd.DataFrame, load: Load, settings: HeadSimilarity) -> list[tuple[str, Any, int]]:
    """(title, matrix, number of heads) of the chosen role's matrices in the chosen layers, head after head."""
    rows = matrices[matrices["n_heads"].notna() & matrices["expert"].isna()]
    chosen = choose_matrices(rows, [f"{settings.role}:{layer}" for layer in settings.layers])
    return [
        (f"{row.role} of layer {row.layer}", load(row).double().numpy(), int(row.n_heads))
        for row in chosen.itertuples(index=False)
    ]


def pair_table(layers: list[Layer]) -> pd.DataFrame:
    """A row for each pair of heads of a layer, and each once: head, other, cosine, distance, chance."""
    parts = []
    for layer in layers:
        if layer.found:
            rows, columns = np.triu_indices(len(layer.found.head), 1)
            values = {"head": layer.found.head[rows], "other": layer.found.head[columns]}
            numbers = {"cosine": layer.found.cosines, "distance": layer.found.distances, "chance": layer.found.chance}
            parts.append(pd.DataFrame({**layer.place, **values, **{n: v[rows, columns] for n, v in numbers.items()}}))
    return pd.concat(parts, ignore_index=True)
