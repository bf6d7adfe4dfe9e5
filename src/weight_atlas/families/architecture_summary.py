"""What a model is made of, for people: its configuration in one set of names, and its parameters by part."""

from typing import Any

import pandas as pd

from weight_atlas.families.architecture import Architecture
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.roles import CATEGORY, Role

# In the order of the configuration table: name, meaning.
FIELDS: dict[str, str] = {
    "family": "family table that explains its tensors",
    "architecture": "class in config.json",
    "n_layers": "layers (of the decoder, if there are two stacks)",
    "encoder_n_layers": "layers of the encoder",
    "d_model": "width of the residual stream",
    "d_ff": "width of the dense feed-forward part",
    "n_heads": "query heads",
    "n_kv_heads": "key-value heads",
    "head_dim": "width of a head",
    "q_rank": "rank of the query latent",
    "kv_rank": "rank of the key-value latent",
    "vocabulary": "tokens in the embedding",
    "context": "longest sequence in the configuration",
    "window": "width of local attention",
    "n_experts": "routed experts",
    "n_experts_per_token": "routed experts that a token passes",
    "n_shared_experts": "experts that every token passes",
    "d_ff_expert": "width of a routed expert",
    "attention": "kind of attention",
    "order": "order of norms and parts",
    "norm": "kind of norm",
    "norm_eps": "constant in the norm",
    "activation": "activation of the feed-forward part",
    "gated": "whether the feed-forward part has a gate",
    "positions": "position encoding",
    "rope_theta": "base of the rotary frequencies",
    "tied": "whether the token embedding is also the unembedding",
    "dtype": "type in config.json",
    "stored_types": "types on disk, by bytes",
    "parameters": "parameters, tied ones once",
    "bytes": "bytes of all tensors on disk",
}
CATEGORIES = (
    "token embedding", "position embedding", "segment embedding", "attention", "feed-forward", "experts",
    "shared experts", "router", "state space", "unembedding",
    "head", "norms and biases", "auxiliary", "adapter", "other",
)  # fmt: skip


def configuration(architecture: Architecture, inventory: pd.DataFrame) -> dict[str, Any]:
    """The configuration of a model by the names in FIELDS, without those that neither config.json nor shapes give.

    inventory: of the same model. Of a checkpoint none of whose tensors has a role, nothing is known but its size: a
    family's facts are about what its rows explain.
    """
    values: dict[str, Any] = {"architecture": architecture.name or None}
    if (inventory["role"] != Role.OTHER.value).any() or inventory.empty:
        family, quantities = architecture.family, architecture.quantities
        values |= {"family": family.name} | {name: quantities.fact(name) for name in family.describe}
        values |= _from_shapes(inventory)
        values |= {name: value for name in FIELDS if (value := _of_all_layers(quantities, name)) is not None}
        values |= _of_parts(inventory)
    values |= _size(inventory)
    return {name: values[name] for name in FIELDS if values.get(name) is not None}


def _of_all_layers(quantities: Quantities, name: str) -> Any:
    value = quantities.of(name)
    return value if isinstance(value, str | int | float | bool) else None


def _from_shapes(inventory: pd.DataFrame) -> dict[str, Any]:
    """Sizes as the tensors have them, for what config.json leaves out."""
    plain = inventory[(inventory["component"] == "") & (inventory["stack"] != "other")]

    def of(role: Role, column: str, expert: bool = False) -> int | None:
        rows = plain[(plain["role"] == role.value) & (plain["expert"].notna() == expert)]
        values = rows[column].dropna().unique()
        return int(values[0]) if len(values) == 1 else None

    decoder = plain[(plain["stack"] == "decoder") & plain["layer"].notna()]["layer"]
    encoder = plain[(plain["stack"] == "encoder") & plain["layer"].notna()]["layer"]
    layers = decoder if len(decoder) else encoder
    return {
        "n_layers": int(layers.max()) + 1 if len(layers) else None,
        "vocabulary": of(Role.W_E, "rows"),
        "d_model": of(Role.W_E, "cols"),
        "d_ff": of(Role.W_DOWN, "cols"),
        "d_ff_expert": of(Role.W_DOWN, "cols", expert=True),
    }


def _size(inventory: pd.DataFrame) -> dict[str, Any]:
    own = inventory[inventory["tied_to"] == ""]
    types = own.groupby("dtype")["bytes"].sum().sort_values(ascending=False, kind="stable")
    return {
        "stored_types": ", ".join(types.index),
        "parameters": int(own["parameters"].sum()),
        "bytes": int(own["bytes"].sum()),
    }


def _of_parts(inventory: pd.DataFrame) -> dict[str, Any]:
    part = inventory[inventory["stack"] != "other"]
    attends = part["role"].isin([Role.W_Q.value, Role.W_Q_B.value]).any()
    feeds = part["role"].eq(Role.W_DOWN.value).any()
    # Some configurations give the width of the rotated part of a head only.
    widths = part[part["role"].isin([Role.W_Q.value, Role.W_Q_B.value])]["head_dim"].dropna().unique()
    embeds = part[(part["role"] == Role.W_E.value) & (part["component"] == "")]
    unembeds = inventory[(inventory["role"] == Role.W_U.value) & (inventory["component"] == "")]
    return {
        **({} if attends else {"attention": "none", "n_heads": None, "n_kv_heads": None, "head_dim": None}),
        **({"head_dim": int(widths[0])} if len(widths) == 1 else {}),
        "gated": bool(part["role"].eq(Role.W_GATE.value).any()) if feeds else None,
        **({"vocabulary": int(embeds["rows"].max())} if len(embeds) else {}),  # config.json may be behind it
        "tied": bool((unembeds["tied_to"] != "").any()) if len(unembeds) else None,
    }


def parameter_table(inventory: pd.DataFrame) -> pd.DataFrame:
    """Parameters and bytes by stack, layer, category, role and stored type; tied tensors count once.

    Columns: stack, layer (missing outside layers), category (of CATEGORIES), role, dtype, tensors, parameters, bytes.
    """
    own = inventory[inventory["tied_to"] == ""].assign(category=lambda table: category_of(table))
    keys = ["stack", "layer", "category", "role", "dtype"]
    table = own.groupby(keys, dropna=False, sort=True, observed=True).agg(
        tensors=("id", "size"), parameters=("parameters", "sum"), bytes=("bytes", "sum")
    )
    return table.reset_index()


def tensor_list(inventory: pd.DataFrame) -> pd.DataFrame:
    """Every tensor in the model's order, to read: id, role, category, stack, layer, expert, shape, dtype, parameters.

    shape: of the logical matrix, (out, in), as "4096 x 1024". megabytes: of 10^6 bytes, as stored. tied_to: the tensor
    whose data this is; counted there.
    """
    shape = inventory["rows"].astype(str) + (" x " + inventory["cols"].astype(str)).where(inventory["cols"].notna(), "")
    columns = [
        "id",
        "role",
        "category",
        "stack",
        "layer",
        "expert",
        "shape",
        "dtype",
        "parameters",
        "megabytes",
        "tied_to",
    ]
    table = inventory.assign(category=category_of(inventory), shape=shape, megabytes=inventory["bytes"] / 1e6)
    return table[columns]


def category_of(inventory: pd.DataFrame) -> pd.Series:
    """The part of the model that each row belongs to, one of CATEGORIES."""
    category = inventory["role"].map({role.value: category for role, category in CATEGORY.items()})
    feeds = category == "feed-forward"
    category = category.mask(feeds & inventory["expert"].notna(), "experts")
    category = category.mask(feeds & (inventory["component"] == "shared_expert"), "shared experts")
    category = category.replace({"norm": "norms and biases", "bias": "norms and biases"})
    return category.mask(inventory["stack"] == "other", "other")


def parameters_by(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """A parameter_table summed by one of its columns, with each group's share of all parameters and of all bytes."""
    groups = table.groupby(column, dropna=False, sort=True)[["tensors", "parameters", "bytes"]].sum().reset_index()
    for size in ("parameters", "bytes"):
        groups[f"{size}_share"] = groups[size] / max(1, groups[size].sum())
    return groups.sort_values("parameters", ascending=False, kind="stable", ignore_index=True)
