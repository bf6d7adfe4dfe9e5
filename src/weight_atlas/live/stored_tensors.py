"""A checkpoint's tensors as transformers' loader takes them, and whether they are what the live model holds.

The loader is given the tensors that the checkpoint's own reader finds, each read when it is asked for. As it is read, a
sample of its values is kept; after loading, these are looked for in the live model, along the way of transformers' own
conversion (names changed, experts stacked, fused matrices split).
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import core_model_loading as loader
from transformers.conversion_mapping import get_model_conversion_mapping

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.live.language_model import LanguageModel

# Values of a tensor that are compared: spread over it evenly.
SAMPLE = 64


class StoredTensor:
    """One stored tensor, read when it is asked for; stands where transformers expects a slice of a safetensors file."""

    def __init__(self, checkpoint: Checkpoint, name: str):
        self._checkpoint, self._name = checkpoint, name
        self.entry = checkpoint.stored.entries[name]
        # Stands there as a part of another tensor, or as nothing that can be read.
        self.packed = name in checkpoint.consumed or bool(getattr(checkpoint.entries.get(name), "note", "packed"))
        self.sample: torch.Tensor | None = None

    def get_dtype(self) -> str:
        """The stored type, as safetensors spells it."""
        return self.entry.dtype

    def get_shape(self) -> list[int]:
        """The stored shape."""
        return list(self.entry.shape)

    def __getitem__(self, part: Any) -> torch.Tensor:
        if self.entry.note:
            what = f"tensor {self._name} cannot be read: {self.entry.note}"
            raise AtlasError(what, where=self._checkpoint.folder / self.entry.shard)
        tensor = self._checkpoint.stored.read(self._name)
        self.sample = sample_of(tensor)
        return tensor[part]

    def row(self, number: int) -> torch.Tensor:
        """One row."""
        return self._checkpoint.stored.read(self._name, slice(number, number + 1))[0]


def stored_tensors(checkpoint: Checkpoint) -> dict[str, StoredTensor]:
    """All tensors of a checkpoint by name, as a state dict whose values are not read yet."""
    return {name: StoredTensor(checkpoint, name) for name in checkpoint.stored.entries}


def sample_of(tensor: torch.Tensor) -> torch.Tensor:
    """Some values of a tensor, (at most SAMPLE,), at places that only its shape decides."""
    flat = tensor.detach().reshape(-1) if tensor.is_contiguous() else None
    places = torch.linspace(0, max(tensor.numel() - 1, 0), min(SAMPLE, tensor.numel()), dtype=torch.float64).long()
    if flat is None:
        return tensor.detach()[torch.unravel_index(places.to(tensor.device), tensor.shape)].clone()
    return flat[places.to(tensor.device)].clone()


@torch.no_grad()
def keep_padding_rows(model: LanguageModel, stored: dict[str, StoredTensor]) -> None:
    """Give embeddings back their stored padding rows: the code of some models writes zeros there when it is loaded."""
    live = model.state_dict(keep_vars=True)
    rows = {
        id(module.weight): module.padding_idx
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None and not module.weight.is_meta
    }
    shapes = {tuple(tensor.shape) for tensor in live.values() if id(tensor) in rows}
    for name, target, _, converter in _ways(
        model, [name for name in stored if stored[name].entry.shape in shapes], live
    ):
        if converter is None and (row := rows.get(id(live.get(target)))) is not None:
            live[target].data[row] = stored[name].row(row).to(live[target])


@dataclass
class Comparison:
    """What became of the stored tensors.

    compared: whose values were found in the live model. named: whose place there is known by name and shape alone.
    absent: stored name -> the name under which the model has no such tensor. differing: whose values are not there.
    """

    compared: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)


@dataclass
class _Group:
    """Stored tensors that one conversion makes live ones of; sources: stored name -> name before the conversion."""

    target: str
    converter: Any
    sources: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def compare(model: LanguageModel, stored: dict[str, StoredTensor]) -> Comparison:
    """Look for every stored tensor in a live model that was just loaded from them."""
    result, live = Comparison(), model.state_dict()
    # What transformers' quantizers unpack, or compute with as it is packed, is no longer told by values.
    result.named += [name for name, tensor in stored.items() if tensor.packed]
    plain = [name for name, tensor in stored.items() if not tensor.packed]
    groups: dict[str, _Group] = {}
    taken: dict[str, str] = {}
    for name, target, before, converter in _ways(model, plain, live):
        if target not in live:
            result.absent[name] = target
        elif converter is not None:
            groups.setdefault(target, _Group(target, converter)).sources[name] = before
        else:
            _note(result, name, _same(stored[name], live[target]))
            if taken.setdefault(target, name) != name and name in result.named:
                result.differing.append(name)
    for group in groups.values():
        found = _undone(model, group, live)
        for name, before in group.sources.items():
            _note(result, name, _same(stored[name], found[before]) if before in found else None)
    return result


def _ways(model: Any, names: list[str], live: dict) -> Iterator[tuple[str, str, str, Any]]:
    """For each stored name: the live name, the name before its conversion, and the conversion, if there is one.

    The same steps as convert_and_load_state_dict_in_model takes.
    """
    mapping = get_model_conversion_mapping(model, None, getattr(model, "hf_quantizer", None))
    renamings = [entry for entry in mapping if isinstance(entry, loader.WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, loader.WeightConverter)]
    by_pattern = {pattern: entry for entry in converters for pattern in entry.source_patterns}
    body = model.base_model_prefix
    for name in sorted(names, key=loader.dot_natural_key):
        target, pattern = loader.rename_source_key(name, renamings, converters, body, live)
        if target not in live and name in live:
            target, pattern = loader.rename_source_key(name, [], [], body, live)
        if pattern is None:
            yield name, target, target, None
            continue
        before = loader.apply_renamings(name, renamings)
        prefix = f"{body}."
        if target.startswith(prefix) and not before.startswith(prefix):
            before = prefix + before
        yield name, target, before, by_pattern[pattern]


def _undone(model: Any, group: _Group, live: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What live tensors were made of, by the names before the conversion; {} where it cannot be undone."""
    first, *others = group.converter.target_patterns
    targets = [group.target, *(group.target.replace(first, other) for other in others)]
    if any(target not in live or live[target].is_meta for target in targets):
        return {}
    try:
        back = copy.deepcopy(group.converter).reverse_transform()
        for target in targets:
            renamed, pattern = back.rename_source_key(target)
            back.add_tensor(renamed, target, pattern, live[target])
        made = back.convert(renamed, model=model, config=model.config)
    except (NotImplementedError, ValueError, KeyError, AttributeError, TypeError, RuntimeError):
        return {}
    return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}


def _same(stored: StoredTensor, live: torch.Tensor) -> bool | None:
    """Whether a live tensor holds a stored one's values; None where only the name tells (not read, or elsewhere)."""
    if stored.sample is None or live.is_meta:
        return None
    if tuple(live.shape) != stored.entry.shape:
        return False
    wanted, found = stored.sample.to(live.dtype), sample_of(live).cpu()
    if wanted.is_complex():
        wanted, found = torch.view_as_real(wanted), torch.view_as_real(found)
    wanted, found = wanted.double(), found.double()
    return bool(((wanted == found) | (wanted.isnan() & found.isnan())).all())


def _note(result: Comparison, name: str, same: bool | None) -> None:
    {True: result.compared, None: result.named, False: result.differing}[same].append(name)
