"""The model's own names: remove what training wrappers and training classes put before or into them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.tensors import Store, TensorEntry
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch

# Modules that a wrapper puts around another: torch.compile, activation checkpointing, FSDP, Lightning's strategies,
# then DDP, DataParallel and weight averaging. No model names a module of its own so.
WRAPPERS = frozenset({
    "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_fpw_module", "_forward_module", "module",
})  # fmt: skip
# What torch's weight averaging counts beside the model that it wraps.
_COUNTER = "n_averaged"
# Attributes under which training classes (Lightning's, say) keep a model.
_OWNERS = ("net", "network")
# `model` is such an attribute too, but also the name of the body in most models: it is the attribute if another body or
# a head follows it, under these names.
_BODIES = (
    "model", "transformer", "gpt_neox", "gpt_neox_japanese", "backbone", "bert", "roberta", "distilbert", "albert",
    "electra", "biogpt", "rwkv",
)  # fmt: skip
_HEADS = ("lm_head", "embed_out")
_FLAT = ("_flat_param", "flat_param")


class UnwrappedStore:
    """A store whose tensors go by other names; names: new name -> stored one. Other tensors are left out."""

    def __init__(self, store: Store, names: dict[str, str]):
        self.folder = store.folder
        self._store, self._names = store, names
        self.entries: dict[str, TensorEntry] = {
            name: replace(store.entries[stored], name=name) for name, stored in names.items()
        }

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """The tensor as stored; with rows, a range of its first dimension."""
        return self._store.read(self._names[name], rows)

    def raw(self, name: str) -> bytes:
        """The bytes of a tensor."""
        return self._store.raw(self._names[name])


def unwrapped(store: Store, prefix: str | None = None) -> tuple[Store, str]:
    """A store under the model's own names, and what was done to the names, in words ("" where nothing was).

    prefix: what precedes the model's names; tensors whose names begin otherwise are not part of it.
    """
    stored = list(store.entries)
    names = dict(zip(stored, own_names(stored, prefix, store.folder), strict=True))
    kept = {name: own for name, own in names.items() if own is not None}
    if all(name == own for name, own in kept.items()) and len(kept) == len(stored):
        return store, ""
    return UnwrappedStore(store, _inverse(kept, store.folder)), _description(kept, len(stored))


def own_names(names: list[str], prefix: str | None, where: object) -> list[str | None]:
    """For each name the one that the model itself has for it, or None for what is no part of the model."""
    if flat := next((name for name in names if name.rpartition(".")[2] in _FLAT), None):
        raise AtlasError(
            f"{flat}: the parameters of an FSDP unit in one flat piece, which only FSDP can take apart",
            where=where,
            remedy="save the model with StateDictType.FULL_STATE_DICT, or gather its shards with torch's own tools",
        )
    inner = [name if name != _COUNTER else None for name in names] if prefix is None else _below(names, prefix, where)
    found = [name and _unwrapped(name) for name in inner]
    while (owner := _owner([name for name in found if name])) is not None:
        found = [name and name.removeprefix(f"{owner}.") for name in found]
    return found


def _unwrapped(name: str) -> str:
    parts = name.split(".")
    return name if WRAPPERS.isdisjoint(parts) else ".".join(part for part in parts if part not in WRAPPERS)


def _below(names: list[str], prefix: str, where: object) -> list[str | None]:
    dotted = prefix.rstrip(".") + "."
    found = [name.removeprefix(dotted) if name.startswith(dotted) else None for name in names]
    if not any(found):
        first = sorted({name.partition(".")[0] for name in names})[:5]
        raise AtlasError(
            f"no tensor's name begins with the prefix {dotted!r}",
            where=where,
            remedy=f"correct `prefix` of this model, or remove it; the names begin with: {', '.join(first)}",
        )
    return found


def _owner(names: list[str]) -> str | None:
    """The attribute of a training class that all names begin with, or None."""
    heads = {name.partition(".")[0] for name in names}
    if len(heads) != 1:
        return None
    (head,) = heads
    inner = {name.split(".")[1] for name in names if name.count(".") > 1}
    if head in _OWNERS or (head == "model" and inner & {*_BODIES, *_HEADS}):
        return head
    return None


def _inverse(names: dict[str, str], folder: Path) -> dict[str, str]:
    """Own name -> stored name; two stored tensors under one name are an AtlasError."""
    inverse: dict[str, str] = {}
    for name, own in names.items():
        if own in inverse:
            raise AtlasError(
                f"{inverse[own]} and {name} are both {own} without the names of wrappers",
                where=folder,
                remedy="keep one of the two models in the file, or say which is meant: `prefix` of this model",
            )
        inverse[own] = name
    return inverse


def _description(kept: dict[str, str], total: int) -> str:
    changed = {name: own for name, own in kept.items() if name != own}
    words = []
    if changed:
        name, own = next(iter(changed.items()))
        words.append(f"wrappers taken off {len(changed)} of {total} names: {name} is read as {own}")
    if left := total - len(kept):
        words.append(f"{left} of {total} tensors stand outside of the model and are left out")
    return "; ".join(words)
