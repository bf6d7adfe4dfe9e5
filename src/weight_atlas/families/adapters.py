"""LoRA adapters in PEFT's names: which weight each factor changes.

An adapter's update of a weight is scale * B A with A (rank, in) and B (out, rank); the product is never formed here.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from weight_atlas.errors import AtlasError
from weight_atlas.families.matching import Match, Matcher
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.roles import Role
from weight_atlas.families.schema import Family, Row, load_family

_PART = re.compile(r"\.lora_(?:embedding_)?(A|B|magnitude_vector)(?:\.[^.]+)*?(?:\.weight)?$")
_PREFIX = "base_model.model."
_ROLES = {"A": Role.LORA_A, "B": Role.LORA_B, "magnitude_vector": Role.LORA_MAGNITUDE}


def is_adapter(config: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether a checkpoint is an adapter to another model: by its configuration, or by its tensors' names."""
    return "peft_type" in config or any(_PART.search(name) for name in names)


def match_adapter(matcher: Matcher, name: str, shape: tuple[int, ...], config: Mapping[str, Any]) -> Match | None:
    """The row of one of an adapter's tensors: a factor of the weight that it changes, or a weight stored whole."""
    part = _PART.search(name)
    base = name.removeprefix(_PREFIX)
    if part is None:
        return matcher.match(base, shape)
    base = base[: len(base) - len(name) + part.start()]
    changed = matcher.match(f"{base}.weight", ()) or matcher.match(base, ())
    if changed is None:
        return None
    role = _ROLES[part[1]]
    note = _rank(shape[0 if role is Role.LORA_A else -1], config) if role is not Role.LORA_MAGNITUDE else ""
    row = Row(role=role, component=changed.row.component, stack=changed.row.stack, note=note)
    of = "+".join(changed.row.pieces) if changed.row.pieces else str(changed.row.role)
    return Match(row, changed.pattern, changed.layer, changed.expert, of)


def _rank(rank: int, config: Mapping[str, Any]) -> str:
    alpha = config.get("lora_alpha")
    if not rank or alpha is None:
        return f"rank {rank}"
    scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
    return f"rank {rank}, scale {scale:g}"


def adapted_family(config: Mapping[str, Any], names: list[str], families: Iterable[str]) -> Family:
    """The family of the model that an adapter changes, found by its names: adapters do not say what it is.

    Among the families that know all of them the reading that most share is taken, and its first family; `family` in the
    configuration overrules it. Where no family knows them, an AtlasError.
    """
    readings: dict[tuple, list[str]] = {}
    for family in map(load_family, families):
        matcher = Matcher(family, Quantities(family, {}))
        matches = [match_adapter(matcher, name, (1, 1), config) for name in names]
        if all(match is not None and match.row.role is not Role.OTHER for match in matches):
            meaning = tuple((match.row.role, match.of, match.layer, match.expert) for match in matches)
            readings.setdefault(meaning, []).append(family.name)
    if readings:
        return load_family(max(readings.values(), key=len)[0])
    raise AtlasError(
        "no family knows the tensors that this adapter changes",
        where="adapter_config.json",
        remedy="set `family` for this model in the configuration, to the family of the model that it adapts",
    )
