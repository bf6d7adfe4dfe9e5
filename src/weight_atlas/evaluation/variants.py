"""The variants of a model that an ablation of the configuration stands for, and how each is put into effect."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.evaluation.quantized_models import quantized_layers
from weight_atlas.evaluation.quantizers import Scheme
from weight_atlas.evaluation.restoring import super_activations_restored
from weight_atlas.lm.anatomy import Anatomy, Coordinate
from weight_atlas.lm.edits import Edit, edited, scale, zero
from weight_atlas.super_weights.controls import magnitude_ratio, matched_draws

BASELINE = "baseline"
SPARING = ", sparing"


@dataclass(frozen=True)
class Variant:
    """One way to change a model, reversible.

    kind: "baseline" for no change at all, else one of KINDS. edits: of weights, in order. restored: weights that are
    zeroed while the massive activations that they make stay. scheme: quantization of the layers' matrices (see
    quantized_models.layer_matrices), in which the `spared` weights keep their value. factor: what the edits multiply
    by, of a scaling. magnitude_ratio: of edited single weights, the sum of |w| over that of the ablation's weights.
    """

    name: str
    kind: str = "baseline"
    edits: tuple[Edit, ...] = ()
    restored: tuple[Coordinate, ...] = ()
    scheme: Scheme | None = None
    spared: tuple[Coordinate, ...] = ()
    matrices: str = "all"
    factor: float | None = None
    magnitude_ratio: float | None = None

    def description(self) -> dict[str, Any]:
        """The variant in plain values, for a JSON artifact."""
        return {
            "variant": self.name,
            "kind": self.kind,
            "edits": [{**asdict(edit.coordinate), "factor": edit.factor, "offset": edit.offset} for edit in self.edits],
            "restored": [asdict(place) for place in self.restored],
            "scheme": None if self.scheme is None else asdict(self.scheme),
            "spared": [asdict(place) for place in self.spared],
            "matrices": self.matrices,
            "factor": self.factor,
            "magnitude_ratio": self.magnitude_ratio,
        }


def variant_from(record: dict[str, Any]) -> Variant:
    """The variant that a description describes."""
    edits = []
    for edit in record["edits"]:
        place = {key: value for key, value in edit.items() if key not in ("factor", "offset")}
        edits.append(Edit(Coordinate(**place), edit["factor"], edit["offset"]))
    return Variant(
        record["variant"],
        record["kind"],
        tuple(edits),
        tuple(Coordinate(**place) for place in record["restored"]),
        None if record["scheme"] is None else Scheme(**record["scheme"]),
        tuple(Coordinate(**place) for place in record["spared"]),
        record["matrices"],
        record["factor"],
        record["magnitude_ratio"],
    )


def variants_of(
    name: str, settings: dict[str, Any], live: Anatomy, super_weights: Sequence[Coordinate]
) -> list[Variant]:
    """Expand an ablation of the configuration into variants; the one named "baseline" is the model as it is.

    settings: for each kind of change that is wanted, what belongs to it (see KINDS; None: not wanted), and `weights`,
    which takes the place of super_weights, the detected ones. Without any weights there are no variants but
    quantized ones.
    """
    if name == BASELINE:
        return [Variant(BASELINE)]
    by_hand = settings.get("weights")
    targets = list(super_weights) if by_hand is None else [_coordinate(weight) for weight in by_hand]
    variants = []
    for kind, expand in KINDS.items():
        if settings.get(kind) is not None and (targets or kind == "quantize"):
            variants += [
                replace(variant, name=f"{name}: {variant.name}", kind=kind)
                for variant in expand(live, targets, **settings[kind])
            ]
    return variants


def _zero(live: Anatomy, targets: list[Coordinate]) -> list[Variant]:
    return [_zeroing("zeroed", live, targets, targets)]


def _each(live: Anatomy, targets: list[Coordinate]) -> list[Variant]:
    return [_zeroing(f"only {target}", live, targets, [target]) for target in targets]


def _scale(live: Anatomy, targets: list[Coordinate], factors: Sequence[float] = (0.5, 2.0)) -> list[Variant]:
    return [
        replace(_editing(f"x {factor:g}", [scale(target, factor) for target in targets]), factor=float(factor))
        for factor in factors
    ]


def _neurons(live: Anatomy, targets: list[Coordinate]) -> list[Variant]:
    neurons = dict.fromkeys(replace(target, row=None) for target in targets)
    return [_editing("neurons zeroed", map(zero, neurons))]


def _restore(live: Anatomy, targets: list[Coordinate]) -> list[Variant]:
    return [Variant("activation restored", restored=tuple(targets))]


def _experts(live: Anatomy, targets: list[Coordinate]) -> list[Variant]:
    experts = dict.fromkeys(replace(target, row=None, col=None) for target in targets if target.expert is not None)
    return [_editing("experts removed", map(zero, experts))] if experts else []


def _random(live: Anatomy, targets: list[Coordinate], draws: int = 5, seed: int = 0) -> list[Variant]:
    drawn = matched_draws(live, targets, draws=draws, seed=seed)
    return [_zeroing(f"random {number}", live, targets, draw) for number, draw in enumerate(drawn, start=1)]


def _largest(live: Anatomy, targets: list[Coordinate], count: int = 10) -> list[Variant]:
    return [_zeroing("largest others", live, targets, largest_others(live, targets, count))]


def _quantize(
    live: Anatomy, targets: list[Coordinate], formats: Sequence[str] = ("int8", "int4"),
    granularities: Sequence[str] = ("tensor", "channel"), symmetric: bool = False, clip: float | None = 8.0,
    matrices: str = "all",
) -> list[Variant]:  # fmt: skip
    """Each format at each granularity, plain and, if there are weights to spare, clipped with these restored."""
    variants = []
    for format_, granularity in product(formats, granularities):
        plain = Scheme(format_, granularity, symmetric)
        variants.append(Variant(str(plain), scheme=plain, matrices=matrices))
        if targets:
            sparing = Variant(f"{plain}{SPARING}", scheme=replace(plain, clip=clip), spared=tuple(targets))
            variants.append(replace(sparing, matrices=matrices))
    return variants


# What can be done to weights, in the order of the variants. zero, scale: all of them together; each: one by one;
# neurons, experts: whole columns and whole experts of theirs; restore: zeroed, their massive activations kept; random,
# largest: other weights zeroed instead.
KINDS = {
    "zero": _zero,
    "each": _each,
    "scale": _scale,
    "neurons": _neurons,
    "restore": _restore,
    "experts": _experts,
    "random": _random,
    "largest": _largest,
    "quantize": _quantize,
}


def largest_others(live: Anatomy, excluded: Sequence[Coordinate], count: int) -> list[Coordinate]:
    """The `count` weights of largest magnitude of each dense MLP output projection, the excluded ones left out."""
    left_out = {(place.layer, place.row, place.col) for place in excluded if place.expert is None}
    found = []
    for projection in live.projections:
        if projection.stacked or projection.expert is not None:
            continue
        magnitude = projection.matrix().float().abs()
        for layer, row, col in left_out:
            if layer == projection.layer and row is not None and col is not None:
                magnitude[row, col] = -1
        flat = magnitude.flatten().topk(min(count, magnitude.numel() - len(left_out))).indices.tolist()
        cols = magnitude.shape[1]
        found += [projection.coordinate(place // cols, place % cols) for place in sorted(flat)]
    return found


@contextmanager
def applied(live: Anatomy, variant: Variant, prompt: torch.Tensor) -> Iterator[None]:
    """Put a variant into effect while the block lasts; afterwards the model is as it was, bit for bit.

    prompt: token ids (1, length) that set off massive activations; read only where some are to be restored.
    """
    if variant.scheme is not None:
        with quantized_layers(live, variant.scheme, variant.spared, variant.matrices):
            yield
    elif variant.restored:
        with super_activations_restored(live, variant.restored, prompt):
            yield
    else:
        with edited(live, variant.edits):
            yield


def _editing(name: str, edits: Iterable[Edit]) -> Variant:
    return Variant(name, edits=tuple(edits))


def _zeroing(name: str, live: Anatomy, targets: Sequence[Coordinate], weights: Sequence[Coordinate]) -> Variant:
    return replace(_editing(name, map(zero, weights)), magnitude_ratio=magnitude_ratio(live, targets, weights))


def _coordinate(weight: dict[str, Any]) -> Coordinate:
    missing = {"layer", "row", "col"} - weight.keys()
    if missing:
        raise AtlasError(f"a weight without {', '.join(sorted(missing))}: {weight}", remedy="give layer, row and col")
    return Coordinate(
        weight["layer"], weight["row"], weight["col"], weight.get("expert"), component=weight.get("component", "")
    )
