"""Which tensors on disk a live model's parameters come from, by transformers' own conversion mapping.

A checkpoint's names are not the live model's: transformers moves prefixes, renames modules, stacks experts and joins or
cuts matrices. The mapping that it loads and saves with says how; here it is run backwards on shapes alone. The names
are those of a checkpoint that it would save, which a family's table knows whatever the checkpoint at hand has.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from weight_atlas.live.language_model import LanguageModel


@dataclass(frozen=True)
class Origin:
    """Live parameters and the tensors on disk that they are made of.

    live: names of parameters; stored: name on disk -> shape, in the mapping's order. Several of one side stand for one
    of the other. operations: transformers' operations that loading applies, in order; none where at most the name
    differs.
    """

    live: tuple[str, ...]
    stored: dict[str, tuple[int, ...]]
    operations: tuple[Any, ...] = ()


def origins(model: LanguageModel) -> Iterator[Origin]:
    """Where each parameter of a live model comes from; a model of foreign code has its own names on disk."""
    from transformers.core_model_loading import WeightConverter, apply_converters, apply_renamings

    backwards = _backwards(model)
    converters = [each for each in backwards if isinstance(each, WeightConverter)]
    renamings = [each for each in backwards if not isinstance(each, WeightConverter)]
    by_pattern = {pattern: each for each in converters for pattern in each.source_patterns}
    shapes = {name: parameter.shape for name, parameter in _naturally_sorted(model)}
    converted: dict[str, list[tuple[str, str]]] = {}
    for name, shape in shapes.items():
        first, pattern = apply_converters(name, converters)
        if pattern is None:
            yield Origin((name,), {apply_renamings(name, renamings): tuple(shape)})
        else:
            converted.setdefault(first, []).append((name, pattern))
    for first, members in converted.items():
        converter = deepcopy(by_pattern[members[0][1]])
        members.sort(key=lambda member: converter.source_patterns.index(member[1]))
        for name, pattern in members:
            shape_alone: Any = torch.empty(shapes[name], device="meta")  # in place of a tensor that is being read
            converter.add_tensor(first, name, pattern, shape_alone)
        tensors = converter.convert(first, model=model, config=model.config)
        stored = {
            apply_renamings(name, renamings): tuple((tensor[0] if isinstance(tensor, list) else tensor).shape)
            for name, tensor in tensors.items()
        }
        same = list(stored.values()) == [tuple(shapes[name]) for name, _ in members]
        # A transposition that looks at shapes leaves matrices of the right one alone.
        done = [each for each in converter.operations if not (same and getattr(each, "check_dims", False))]
        operations = tuple(operation.reverse_op for operation in reversed(done))
        yield Origin(tuple(name for name, _ in members), stored, operations)


def live_names(model: LanguageModel) -> dict[str, tuple[str, ...]]:
    """Name on disk, as transformers would save it -> the live parameters that hold it."""
    return {name: origin.live for origin in origins(model) for name in origin.stored}


def _backwards(model: LanguageModel) -> list[Any]:
    """The transforms that saving applies.

    Made anew rather than taken from the load, so that a name does not depend on where the weights came from: no change
    of prefix (families allow for all of them), none for names of old checkpoints, none of a quantizer.
    """
    from transformers import PreTrainedModel
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import PrefixChange

    if not isinstance(model, PreTrainedModel):
        return []
    transforms = get_model_conversion_mapping(model, add_legacy=False)
    return [each.reverse_transform() for each in reversed(transforms) if not isinstance(each, PrefixChange)]


def _naturally_sorted(model: LanguageModel) -> list[tuple[str, torch.nn.Parameter]]:
    """Parameters by all their names, in the order in which transformers converts them: some renamings depend on it."""
    from transformers.core_model_loading import dot_natural_key

    return sorted(model.named_parameters(remove_duplicate=False), key=lambda item: dot_natural_key(item[0]))
