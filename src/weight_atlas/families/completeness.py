"""Whether a file holds the whole model that config.json describes: each layer and expert, no tensor lost or empty.

Shapes are checked against config.json and against each other.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from weight_atlas.errors import AtlasError
from weight_atlas.families.matching import Match
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.roles import Role
from weight_atlas.families.schema import Family
from weight_atlas.families.shapes import ANY, NOTHING, VOCABULARY, Dimension, Sizes, module_of

if TYPE_CHECKING:
    from weight_atlas.checkpoint.tensors import TensorEntry

MTP = "mtp"  # component of the tensors that only layers for further tokens have
_COUNTED = {"": "n_experts", "shared_expert": "n_shared_experts"}  # quantities that count experts, by component
_ONE_STACK = ("Encoder", "CausalLM", "Decoder")
_WHOLE_AGAIN = "a file is missing or was cut short: take the checkpoint again from where it comes from"


def check_elements(entries: Mapping[str, "TensorEntry"], matches: Mapping[str, Match]) -> None:
    """AtlasError if tensors of the model have no elements."""
    empty = [name for name, match in matches.items() if 0 in entries[name].shape and match.row.role is not Role.OTHER]
    if not empty:
        return
    first = entries[empty[0]]
    raise AtlasError(
        f"{len(empty)} of {len(entries)} tensors hold no elements, such as {first.name} of shape {list(first.shape)}",
        where=first.shard,
        remedy="DeepSpeed ZeRO-3 leaves such tensors when a model is saved without gathering its parts: make the "
        "weights with its zero_to_fp32.py, or save with stage3_gather_16bit_weights_on_model_save"
        if any(entries[name].shape == (0,) for name in empty)
        else _WHOLE_AGAIN,
    )


def depth_of(stack: str, quantities: Quantities) -> int | None:
    """The number of layers that config.json gives a stack."""
    encoder = quantities.of("encoder_n_layers") if stack == "encoder" else None
    return encoder or quantities.of("stored_layers") or quantities.of("n_layers") or quantities.n_kinds()


def further_layers(matches: Iterable[Match], quantities: Quantities, family: Family) -> dict[str, set[int]]:
    """By stack, the layers beyond its last that predict further tokens: config.json counts them, or tensors show it."""
    found: dict[str, set[int]] = defaultdict(set)
    depths: dict[str, int | None] = {}
    for match in matches:
        stack = match.row.stack or family.stack
        if stack not in depths:
            depths[stack] = depth_of(stack, quantities)
        depth = depths[stack]
        if match.layer is None or depth is None or match.layer < depth:
            continue
        if match.row.component == MTP or match.layer < depth + (quantities.of("n_extra_layers") or 0):
            found[stack].add(match.layer)
    return found


def check_layers(
    family: Family, quantities: Quantities, matches: Mapping[str, Match], sizes: Sizes, architecture: str
) -> None:
    """AtlasError unless the file holds the layers that config.json counts, and each the tensors that its likes have."""
    stored: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for match in matches.values():
        if match.layer is not None and match.row.role is not Role.OTHER and match.row.stack != "other":
            stored[match.row.stack or family.stack][match.layer].add(match.pattern)
    both = quantities.of("encoder_n_layers") and architecture and not any(word in architecture for word in _ONE_STACK)
    stacks = {"encoder", "decoder"} if both else {*stored} or {family.stack}
    further = further_layers(matches.values(), quantities, family)
    for stack in sorted(stacks):
        layers = {layer: names for layer, names in stored[stack].items() if layer not in further[stack]}
        _check_depth(stack, layers, quantities)
        _check_alike(stack, layers, {*family.some_layers}, sizes)


def _check_depth(stack: str, layers: Mapping[int, set[str]], quantities: Quantities) -> None:
    depth = depth_of(stack, quantities)
    end = max(layers, default=-1) + 1 if depth is None else depth
    given = "the file" if depth is None else f"{_depth_key(stack, quantities)} in config.json"
    if beyond := sorted(layer for layer in layers if layer >= end):
        raise AtlasError(
            f"layers {_ranges(beyond)} of the {stack} are stored, but {given} is {depth}",
            where=given,
            remedy=f"correct it to {beyond[-1] + 1} if these are the weights of this model; layers that predict "
            "further tokens are counted by num_nextn_predict_layers",
        )
    if len(layers) < end:
        first = next(layer for layer in range(end) if layer not in layers)
        raise AtlasError(
            f"{end - len(layers)} layers of the {stack} are missing from the file, the first of them layer {first}: "
            + (f"it holds layer {end - 1}" if depth is None else f"{given} is {depth}"),
            where=given,
            remedy=f"{_WHOLE_AGAIN}; or correct the number of layers in config.json",
        )


def _depth_key(stack: str, quantities: Quantities) -> str:
    names = ("encoder_n_layers",) if stack == "encoder" else ()
    uses = (quantities.source(name) for name in (*names, "stored_layers", "n_layers"))
    return next((quantities.keys(use) for use in uses if use), "the number of kinds of layers")


def _ranges(layers: list[int]) -> str:
    whole = layers == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]} to {layers[-1]}" if whole and len(layers) > 2 else ", ".join(map(str, layers))


def _check_alike(stack: str, layers: Mapping[int, set[str]], optional: set[str], sizes: Sizes) -> None:
    """AtlasError for a layer that lacks tensors of another layer of its kind and has no others instead."""
    kinds: dict[str | None, dict[frozenset, int]] = defaultdict(dict)
    for layer, patterns in sorted(layers.items()):
        needed = frozenset(pattern for pattern in patterns if module_of(pattern) not in optional)
        kinds[sizes.place(stack, layer).kind].setdefault(needed, layer)
    for signatures in kinds.values():
        for less, layer in signatures.items():
            for more, whole in signatures.items():
                if less < more:
                    lost = sorted(more - less)
                    raise AtlasError(
                        f"layer {layer} lacks {len(lost)} tensors that layer {whole} has: {', '.join(lost[:5])}",
                        where=f"layer {layer} of the {stack}",
                        remedy=_WHOLE_AGAIN,
                    )


def check_experts(rows: Iterable[Mapping[str, Any]], matches: Mapping[str, Match], quantities: Quantities) -> None:
    """AtlasError unless each layer with experts has all of them, in each of their matrices."""
    found: dict[tuple, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        match = matches[row["tensor"]]
        if row["expert"] is not None and match.row.component in _COUNTED and match.row.stack != "other":
            found[match.pattern, row["role"], _COUNTED[match.row.component]][row["layer"]].add(row["expert"])
    for (pattern, _, counted), layers in found.items():
        most = max(len(experts) for experts in layers.values())
        for layer, experts in layers.items():
            given = quantities.of(counted, layer)
            count = given if isinstance(given, int) else max(most, *(expert + 1 for expert in experts))
            if experts == {*range(count)}:
                continue
            said = f"{quantities.source(counted, layer)} in config.json is {given}" if given else f"others have {most}"
            raise AtlasError(
                f"layer {layer} has {len(experts)} experts in {module_of(pattern)}, numbered {min(experts)} to "
                f"{max(experts)}, and {said}",
                where=pattern,
                remedy=f"{_WHOLE_AGAIN}; or correct the number of experts in config.json",
            )


_AXES = ("rows", "columns", "as the shape that is stored")
_OTHER_MODEL = "the tensor, or config.json, is not of this model: take both again from where the model comes from"


def check_shapes(dimensions: list[Dimension], sizes: Sizes) -> None:
    """AtlasError unless all tensors have the sizes that config.json gives them, or that the others have.

    The message names the first that does not, what it must have and why. More rows than the vocabulary are usual
    padding: the tensor's row of the inventory gets a note.
    """
    usual = _usual(dimensions, sizes)
    wrong = [one for one in dimensions if not _fits(one, sizes, usual)]
    if wrong:
        raise _mismatch(wrong, dimensions, sizes, usual)
    for one in dimensions:
        vocabulary = sizes.value(VOCABULARY, one.place) if one.expression == VOCABULARY else None
        if vocabulary is not None and isinstance(one.size, int) and one.size > vocabulary:
            extra = f"{one.size - vocabulary} rows beyond the vocabulary of {vocabulary} in config.json"
            for row in one.rows:
                row["note"] = "; ".join(filter(None, [row["note"], extra]))


def _wanted(one: Dimension, sizes: Sizes) -> list[int]:
    """The sizes that config.json allows; [] where it gives none."""
    values = (sizes.value(expression, one.place) for expression in one.expressions)
    return list(dict.fromkeys(value for value in values if value is not None))


def _like_others(one: Dimension, sizes: Sizes) -> bool:
    """Whether this size, or which of several it is, follows from the other tensors."""
    one_of_several = len(one.expressions) > 1 and one.row["cols"] is None
    return one.expression != ANY and (one_of_several or not _wanted(one, sizes))


def _group(one: Dimension) -> tuple:
    """The dimensions that must be alike where config.json gives no size: of one expression, else of one module."""
    scope = one.place.stack, one.place.kind
    return (one.expression, *scope) if len(one.expressions) == 1 else (one.module, one.axis, *scope)


def _usual(dimensions: list[Dimension], sizes: Sizes) -> dict[tuple, int | str]:
    counts: dict[tuple, Counter] = defaultdict(Counter)
    for one in dimensions:
        if _like_others(one, sizes):
            counts[_group(one)][one.size] += len(one.rows)
    return {group: found.most_common(1)[0][0] for group, found in counts.items()}


def _fits(one: Dimension, sizes: Sizes, usual: Mapping[tuple, int | str]) -> bool:
    if _like_others(one, sizes) and one.size != usual[_group(one)]:
        return False
    wanted = _wanted(one, sizes)
    if one.expression == VOCABULARY and wanted and isinstance(one.size, int):
        return one.size >= wanted[0]
    return not wanted or one.size in wanted


def _mismatch(wrong: list[Dimension], dimensions: list[Dimension], sizes: Sizes, usual: Mapping) -> AtlasError:
    one, row = wrong[0], wrong[0].row
    wanted = _wanted(one, sizes)
    by_config = bool(wanted) and one.size not in wanted
    needed = " or ".join(map(str, wanted)) if by_config else usual[_group(one)]
    shape = "x".join(str(row[key]) for key in ("rows", "cols") if row[key] is not None)
    piece = f", its {row['piece']}" if row["piece"] else ""
    what = (
        f"tensor {row['tensor']}{piece} reads as {row['of_role'] or row['role']} of {shape} (stored as "
        f"{row['stored_shape']}): it must have {needed} {_AXES[one.axis]}, {_reason(one, sizes, by_config)}"
    )
    if _turns(one, dimensions, sizes, usual):
        what += "; it is stored transposed"
    if others := len({other["id"] for each in wrong for other in each.rows} - {row["id"]}):
        what += f"; {others} more tensors do not fit either"
    alike = {other.size for other in dimensions if other.expression == one.expression}
    config_alone = by_config and len(alike) == 1 and others
    remedy = f"all tensors of this size have {one.size}: correct config.json" if config_alone else _OTHER_MODEL
    return AtlasError(what, where=row["shard"], remedy=remedy)


def _reason(one: Dimension, sizes: Sizes, by_config: bool) -> str:
    if not by_config:
        return f"as the others have it for {one.expression}" if one.expressions else "as in the other layers"
    if one.expression == NOTHING:
        return "since it is a vector in this family"
    return "; or ".join(f"{text}: {sizes.explain(text, one.place)}" for text in one.expressions)


def _turns(one: Dimension, dimensions: list[Dimension], sizes: Sizes, usual: Mapping) -> bool:
    """Whether the tensor would fit if its rows were its columns."""
    row: Mapping[str, Any] = one.row
    if row["cols"] is None or row["rows"] == row["cols"]:
        return False
    turned = {**row, "rows": row["cols"], "cols": row["rows"]}
    pair = [other for other in dimensions if other.row is row and other.axis < 2]
    return all(_fits(replace(other, rows=[turned]), sizes, usual) for other in pair)
