"""LoRA adapters and their relatives in PEFT's names: which weight each of their tensors changes, and by how much.

A LoRA adapter's update of a weight is scale * B A with A (rank, in) and B (out, rank); the product is never formed
here. What can come with such factors: singular values of the update (AdaLoRA), magnitudes of the changed weight (DoRA),
factors of activations (IA3), new rows of an embedding (trainable tokens), and weights stored whole.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weight_atlas.errors import AtlasError
from weight_atlas.families.adapter_scales import REMEDY, WHERE, Scales
from weight_atlas.families.matching import Match, Matcher
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.roles import Role
from weight_atlas.families.schema import Family, Row, load_family

# A module's own name, a part of its adapter, perhaps the adapter's name, perhaps the part's parameter.
_PART = re.compile(
    r"\.(?P<part>lora_(?:embedding_)?(?:A|B|E|magnitude_vector)|ia3_l|trainable_tokens_(?:delta|original)|token_indices)"
    r"(?:\.(?P<adapter>(?!(?:weight|bias)$)[^.]+))?(?:\.(?P<parameter>weight|bias))?$"
)
# What PEFT puts into the names of modules that it wraps.
_WRAPPED = re.compile(r"\.(base_layer|token_adapter|original_module|modules_to_save)(?=\.|$)")
_ROLES = {
    "lora_A": Role.LORA_A, "lora_embedding_A": Role.LORA_A, "lora_B": Role.LORA_B, "lora_embedding_B": Role.LORA_B,
    "lora_magnitude_vector": Role.LORA_MAGNITUDE, "lora_E": Role.AUX, "ia3_l": Role.AUX,
}  # fmt: skip
_READ = ("LORA", "ADALORA", "IA3", "TRAINABLE_TOKENS")
# The chosen reading of an adapter's names must be shared by this many times as many families as any other.
_CLEARLY = 3


def is_adapter(config: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether a checkpoint is an adapter to another model: by its configuration, or by its tensors' names."""
    return "peft_type" in config or any(_PART.search(name) for name in names)


def check_factors(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """AtlasError unless the two factors of every update are of one rank; shapes: by the tensors' names."""
    for name, down in shapes.items():
        part = _PART.search(name)
        if part is None or _ROLES.get(part["part"]) is not Role.LORA_A:
            continue
        other = f"{name[: part.end('part') - 1]}B{name[part.end('part') :]}"
        up = shapes.get(other, ())
        if len(down) == len(up) == 2 and down[0] != up[1]:
            raise AtlasError(
                f"the factors of one update have different ranks: A is {list(down)}, B is {list(up)}",
                where=other,
                remedy="fetch or save the adapter anew",
            )


def scale_of(config: Mapping[str, Any], name: str, rank: int) -> float | None:
    """What the product of the factors is multiplied by, of which one has this name and rank; None: not known."""
    return Scales(config).of(_place(name).module, rank)[1]


def experts_of(config: Mapping[str, Any], name: str, stored: int) -> int:
    """Of how many experts the factors of one update, with this name and `stored` rows or columns, lie side by side."""
    rank, _ = Scales(config).of(_place(name).module, stored)
    return stored // rank if rank else 1


@dataclass(frozen=True)
class _Place:
    """A tensor's name, parsed: a part of an adapter of the module, or (part None) a parameter of it stored whole.

    depth: how many wrappers there are around the module from this part inwards. wrapper: of a parameter stored whole.
    """

    module: str
    part: str | None
    adapter: str = ""
    bias: bool = False
    depth: int = 0
    wrapper: str = ""


class Adapter:
    """An adapter's configuration, and what each of its tensors is."""

    def __init__(self, config: Mapping[str, Any]):
        self.scales = Scales(config)
        self._config = config
        targets = config.get("target_parameters") or []
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            what = f"target_parameters must be a list of names, not {str(targets)[:100]}"
            raise AtlasError(what, where=WHERE, remedy=REMEDY)
        self._targets: list[str] = targets

    def match(self, matcher: Matcher, name: str, shape: tuple[int, ...]) -> Match | None:
        """The row of one of an adapter's tensors: a part that belongs to a weight, or a weight stored whole."""
        place = _place(name)
        changed = self.changed(matcher, place, shape)
        if changed is None:
            return None
        if place.part is None:
            return _whole(changed, place)
        target, match = changed
        of = "+".join(match.row.pieces) if match.row.pieces else str(match.row.role)
        role = _ROLES.get(place.part, Role.OTHER)
        note = self._note(place, target, of, shape)
        if place.adapter not in ("", "default"):
            note += f", adapter {place.adapter}"
        row = Row(role=role, component=match.row.component, stack=match.row.stack, note=note, bias=place.bias)
        return Match(row, match.pattern, match.layer, match.expert, of)

    def changed(self, matcher: Matcher, place: _Place, shape: tuple[int, ...]) -> tuple[str, Match] | None:
        """Name and row of the weight that a place belongs to."""
        if place.part is None:
            return next(((name, match) for name in _readings(place) if (match := matcher.match(name, shape))), None)
        parameters = [(name, match) for name in self._parameters(place) if (match := matcher.match(name, ()))]
        if parameters and parameters[0][0] != f"{place.module}.weight":
            # PEFT wraps the parameters of a module in the order in which the module has them: the last one outermost.
            parameters.sort(key=lambda found: found[1].row.role is Role.W_DOWN)
            return parameters[-1 - place.depth] if place.depth < len(parameters) else None
        match = matcher.match(f"{place.module}.weight", ()) or matcher.match(place.module, ())
        return None if match is None else (parameters[0][0] if parameters else place.module, match)

    def _parameters(self, place: _Place) -> Iterator[str]:
        """Names of the parameters of a module that the adapter names as targets, rather than the module."""
        for target in self._targets:
            path, _, parameter = target.rpartition(".")
            if f".{place.module}".endswith(f".{path}") or not path:
                yield f"{place.module}.{parameter}"

    def _note(self, place: _Place, target: str, of: str, shape: tuple[int, ...]) -> str:
        match place.part:
            case "trainable_tokens_delta":
                return f"rows of {of} for {self._tokens(shape)}"
            case "trainable_tokens_original" | "token_indices":
                return (
                    f"rows of {of} before training" if place.part.endswith("original") else f"token ids of rows of {of}"
                )
            case "ia3_l":
                return f"IA3: multiplies the {'inputs' if shape[:1] == (1,) else 'outputs'}"
            case "lora_E":
                return "singular values of the update"
            case "lora_magnitude_vector":
                return ""
        if place.part is None:
            return ""
        if place.bias:
            return f"bias of the update, scale {scale:g}" if (scale := self.scales.of(target, 0)[1]) else ""
        ranks = shape[0 if place.part.endswith("A") else min(1, len(shape) - 1)] if shape else 0
        return self.scales.describe(target, ranks)

    def _tokens(self, shape: tuple[int, ...]) -> str:
        given = self._config.get("trainable_token_indices") or self._config.get("token_indices")
        lists = list(given.values()) if isinstance(given, dict) else [given]
        ids = lists[0] if len(lists) == 1 and isinstance(lists[0], list) else None
        count = shape[0] if shape else 0
        if ids is None or len(ids) != count:
            return f"{count} token ids"
        return f"{count} token ids: {', '.join(map(str, ids[:10]))}{' ...' if count > 10 else ''}"


def _place(name: str) -> _Place:
    while name.startswith("base_model."):
        name = name.removeprefix("base_model.").removeprefix("model.")
    part = _PART.search(name)
    module = name[: part.start()] if part else name
    wrappers = _WRAPPED.findall(module)
    if part is None:
        # The outermost of nested wrappers decides what a parameter is: the inner ones were there before.
        return _Place(module, None, wrapper=wrappers[0] if wrappers else "")
    module = _WRAPPED.sub("", module)
    return _Place(
        module, part["part"], part["adapter"] or "", part["parameter"] == "bias", wrappers.count("base_layer")
    )


def _readings(place: _Place) -> Iterator[str]:
    """The names that a parameter stored whole may have in the model itself."""
    yield _WRAPPED.sub("", place.module)
    if place.wrapper == "modules_to_save":
        # With the adapter's name after it, as in files that were not saved by PEFT itself.
        yield re.sub(r"\.modules_to_save\.[^.]+(?=\.)", "", place.module)


def _whole(changed: tuple[str, Match], place: _Place) -> Match:
    match = changed[1]
    notes = {
        "modules_to_save": "trained whole, beside the factors",
        "base_layer": "the adapted model's own, stored with the adapter",
        "token_adapter": "the adapted model's own, stored with the adapter",
        "original_module": "the adapted model's own, which the adapter replaces",
    }
    update: dict[str, Any] = {"note": match.row.note or notes.get(place.wrapper, "")}
    if place.wrapper == "original_module":
        update |= {"role": Role.OTHER, "pieces": (), "layout": (), "sizes": (), "bias": False}
    return Match(match.row.model_copy(update=update), match.pattern, match.layer, match.expert, match.of)


def adapted_family(config: Mapping[str, Any], names: list[str], families: Iterable[str]) -> Family:
    """The family of the model that an adapter changes, found by its names: adapters do not say what it is.

    Several families may know all of them: the reading that most of them share is chosen, and the first family that
    has it; `family` in the configuration overrides it. Where no family knows them, or no reading is clearly the most
    frequent, an AtlasError.
    """
    adapter, places = Adapter(config), [_place(name) for name in names]
    readings: dict[tuple, list[str]] = {}
    for family in map(load_family, families):
        matcher = Matcher(family, Quantities(family, {}))
        meaning = tuple(_meaning(adapter.changed(matcher, place, (1, 1))) for place in places)
        if None not in meaning:
            readings.setdefault(meaning, []).append(family.name)
    if readings:
        shared, *others = sorted(readings.values(), key=len, reverse=True)
        if others and len(shared) < _CLEARLY * len(others[0]):
            raise AtlasError(
                f"families {shared[0]} and {others[0][0]} take what this adapter changes for different weights",
                where=WHERE,
                remedy="set `family` for this model in the configuration, to the family of the model that it adapts",
            )
        return load_family(shared[0])
    kind = str(config.get("peft_type") or "LORA").upper()
    if kind in _READ:
        what = "no family knows the tensors that this adapter changes"
        remedy = "set `family` for this model in the configuration, to the family of the model that it adapts"
    else:
        what = (
            f"no family knows the tensors of this adapter: it is of type {kind}, and only {', '.join(_READ)} are read"
        )
        remedy = "set `allow_other: true` for this model in the configuration, to list its tensors without a role"
    raise AtlasError(what, where=WHERE, remedy=remedy)


def _meaning(changed: tuple[str, Match] | None) -> tuple | None:
    if changed is None or changed[1].row.role is Role.OTHER:
        return None
    match = changed[1]
    return match.row.role, match.row.pieces, match.layer, match.expert
