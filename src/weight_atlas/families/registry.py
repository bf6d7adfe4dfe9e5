"""Finding the family of a model."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any

from weight_atlas.errors import AtlasError
from weight_atlas.families.adapters import adapted_family, is_adapter
from weight_atlas.families.matching import pattern_of
from weight_atlas.families.quantities import flat
from weight_atlas.families.schema import COMMON, FOLDER, Family, load_family, own_family

HOW_TO_ADD = (
    "if it follows the names of a known family, set `family: llama` (or another) for this model in the configuration; "
    "if training put the model inside another module, set `prefix` to what stands before its names; "
    "else add a table: docs/families.md says how; `allow_other: true` keeps unexplained tensors without a role, also "
    "where no family fits at all: their values are analysed one by one"
)
# For a checkpoint that no family explains, analysed tensor by tensor; quantities have the keys that most families use.
NO_FAMILY = Family(name="none", title="no family").model_copy(
    update={"configuration": load_family(COMMON).configuration}
)


@cache
def family_names() -> tuple[str, ...]:
    """Names of all families, sorted; fragments (files that begin with _) are none."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith("_")))


@cache
def _index() -> dict[str, str]:
    """Architecture or model type -> family."""
    index: dict[str, str] = {}
    for name in family_names():
        family = own_family(name)
        for key in (*family.architectures, *family.model_types):
            if index.setdefault(key, name) != name:
                raise AtlasError(f"{key} is claimed by two families: {index[key]} and {name}", where=FOLDER)
    return index


def find_family(
    config: Mapping[str, Any], names: Collection[str] = (), family: str | None = None, allow_other: bool = False
) -> Family:
    """The family of a model: the one named, else by architectures[0], else by model_type of config.json.

    For a composite model (vision and language) the type of its language part counts; for an adapter, the names of the
    tensors that it changes. An unknown one is an AtlasError that lists the tensors (names) by pattern, or with
    allow_other NO_FAMILY, which has no rows.
    """
    _check_claims(config)
    if family is not None:
        return load_family(_named(family))
    if is_adapter(config, names):
        try:
            return adapted_family(config, list(names), ("llama", *family_names()))
        except AtlasError:
            if not allow_other:
                raise
            return NO_FAMILY
    language = flat(config)
    claims: list[str | None] = [f"gguf-{config.get('model_type')}"] if "gguf" in config else []
    claims += [*_first(config.get("architectures")), config.get("model_type")]
    claims += [*_first(language.get("architectures")), language.get("model_type")]
    known = [_index()[claim] for claim in claims if claim is not None and claim in _index()]
    if known:
        return load_family(known[0])
    if allow_other:
        return NO_FAMILY
    said = ", ".join(dict.fromkeys(str(claim) for claim in claims if claim))
    what = f"unknown architecture: {said}" if said else "no config.json says what model this is"
    raise AtlasError(f"{what}; its tensors:\n{tensor_list(names)}", where="config.json", remedy=HOW_TO_ADD)


def _named(name: str) -> str:
    if name in family_names():
        return name
    if name in _index():
        return _index()[name]
    near = difflib.get_close_matches(name, [*family_names(), *_index()], n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise AtlasError(f"unknown family: {name}", where="family", remedy=f"{hint}Known: {', '.join(family_names())}")


def _check_claims(config: Mapping[str, Any]) -> None:
    """AtlasError unless what config.json says of the model's kind are names."""
    names = {"model_type": config.get("model_type"), "architectures": config.get("architectures")}
    language = flat(config)
    names |= {"model_type of the language part": language.get("model_type")}
    names |= {"architectures of the language part": language.get("architectures")}
    for key, value in names.items():
        given = value if key.startswith("architectures") and isinstance(value, list) else [value]
        if any(not isinstance(name, str) for name in given if name is not None):
            raise AtlasError(
                f"config.json: {key} is {str(value)[:80]}, which is no name",
                where=f"{key.partition(' ')[0]} in config.json",
                remedy="restore config.json from where the model comes from",
            )


def _first(names: object) -> list[str]:
    return names[:1] if isinstance(names, list) else []


def tensor_list(names: Iterable[str], most: int = 40) -> str:
    """Tensor names for a message: numbers become N, equal patterns are counted, the first ones are shown."""
    counts: dict[str, int] = {}
    for name in names:
        pattern = pattern_of(name)[0].replace("#", "N")
        counts[pattern] = counts.get(pattern, 0) + 1
    lines = [f"    {pattern}" + (f"  ({count} times)" if count > 1 else "") for pattern, count in counts.items()]
    more = [f"    ... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join(lines[:most] + more)
