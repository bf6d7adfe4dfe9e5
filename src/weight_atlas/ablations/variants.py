"""The variants of a model that an ablation of the configuration stands for."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from weight_atlas.ablations.apply import BASELINE, SPARING, Refused, Variant
from weight_atlas.ablations.given_weights import check_weights
from weight_atlas.errors import AtlasError
from weight_atlas.interventions.activation_restoring import Sink
from weight_atlas.interventions.controls import magnitude, magnitude_ratio, matched_draws
from weight_atlas.interventions.pruning import Largest, check_largest, largest_size
from weight_atlas.interventions.quantizers import Scheme
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import Edit, scale, zero


@dataclass(frozen=True)
class Skipped:
    """A kind of change, or a variant of one, that this model does not allow, and why."""

    variant: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Expansion:
    """What an ablation comes to on one model."""

    variants: list[Variant]
    skipped: list[Skipped]

    def description(self, name: str) -> dict[str, Any]:
        """The ablation in plain values, for a JSON artifact."""
        return {
            "ablation": name,
            "variants": [variant.description() for variant in self.variants],
            "skipped": [asdict(each) for each in self.skipped],
        }


def without(expansion: Expansion, refused: dict[str, Refused]) -> Expansion:
    """The expansion without variants, by name, that the model refused; the log says why.

    Raises the last refusal where no variant is left: what stands in the way of all is no trait of one.
    """
    if refused and len(refused) == len(expansion.variants):
        raise list(refused.values())[-1]
    for name, error in refused.items():
        print(f"{name}: skipped: {error.what}", flush=True)
    kept = [variant for variant in expansion.variants if variant.name not in refused]
    skipped = [
        Skipped(variant.name, variant.kind, refused[variant.name].what)
        for variant in expansion.variants
        if variant.name in refused
    ]
    return Expansion(kept, expansion.skipped + skipped)


class Impossible(Exception):
    """What the configuration asks for makes no sense on this model; the message says why."""


def variants_of(
    name: str, settings: dict[str, Any], live: Anatomy, found: Sequence[Coordinate], inputs: Sequence[float] = ()
) -> Expansion:
    """Expand an ablation of the configuration; the one named "baseline" is the model as it is.

    settings: for each kind of change that is wanted, what belongs to it (see KINDS; None: not wanted), and `weights`,
    which takes the place of `found`, the detected super weights. inputs: of each detected weight, the activation that
    set it off where it was found. What is not possible is skipped, which the log says. Raises AtlasError for weights
    that the model does not have, and where two variants would have one name.
    """
    if name == BASELINE:
        return Expansion([Variant(BASELINE)], [])
    check_weights(settings, f"ablation {name}")
    by_hand = settings.get("weights")
    named = list(found) if by_hand is None else [_coordinate(weight) for weight in by_hand]
    at = dict(zip(found, inputs, strict=False)) if by_hand is None else {}
    # Two spellings of one place are one place: to scale it twice would square the factor.
    targets = {_resolved(live, place): at.get(place) for place in named}
    if len(targets) < len(named):
        print(f"{name}: {len(named) - len(targets)} weights are named twice and count once", flush=True)
    variants, skipped = [], []
    for kind in KINDS:
        if settings.get(kind) is None:
            continue
        try:
            variants += _expanded(name, kind, settings[kind], live, targets)
        except Impossible as error:
            skipped.append(Skipped(f"{name}: {kind}", kind, str(error)))
            print(f"{name}: no variants of {kind}: {error}", flush=True)
    _check_names(name, variants)
    return Expansion(variants, skipped)


def _expanded(
    name: str, kind: str, settings: dict[str, Any], live: Anatomy, targets: dict[Coordinate, float | None]
) -> list[Variant]:
    if not targets and kind != "quantize":
        raise Impossible("no super weights were detected")
    if kind == "restore":
        settings = {"inputs": tuple(targets.values())}
    return [
        replace(variant, name=f"{name}: {variant.name}", kind=kind)
        for variant in KINDS[kind](live, list(targets), **settings)
    ]


def _zero(live: Anatomy, targets: list[Coordinate]) -> list[Variant]:
    return [_zeroing("zeroed", live, targets, targets)]


def _each(live: Anatomy, targets: list[Coordinate]) -> list[Variant]:
    return [_zeroing(f"only {target}", live, targets, [target]) for target in targets]


def _scale(live: Anatomy, targets: list[Coordinate], factors: Sequence[float] = (0.5, 2.0)) -> list[Variant]:
    return [
        replace(_editing(f"x {_shortest(factor)}", [scale(target, factor) for target in targets]), factor=float(factor))
        for factor in factors
    ]


def _neurons(live: Anatomy, targets: list[Coordinate]) -> list[Variant]:
    neurons = dict.fromkeys(replace(target, row=None) for target in targets)
    return [_editing("neurons zeroed", map(zero, neurons))]


def _restore(live: Anatomy, targets: list[Coordinate], inputs: Sequence[float | None]) -> list[Variant]:
    sinks = tuple(map(Sink, targets, inputs))
    return [Variant("activation restored", restored=sinks, weights=len(sinks))]


def _experts(live: Anatomy, targets: list[Coordinate]) -> list[Variant]:
    experts = dict.fromkeys(replace(target, row=None, col=None) for target in targets if target.expert is not None)
    if not experts:
        raise Impossible("none of the weights lies in an expert")
    return [_editing("experts removed", map(zero, experts))]


def _random(live: Anatomy, targets: list[Coordinate], draws: int = 5, seed: int = 0) -> list[Variant]:
    drawn = matched_draws(live, targets, draws=draws, seed=seed)
    if not drawn:
        raise Impossible("their matrices have no other weights that are not zero")
    return [_zeroing(f"random {number}", live, targets, draw) for number, draw in enumerate(drawn, start=1)]


def _largest(live: Anatomy, targets: list[Coordinate], share: float = 1e-6, count: int | None = None) -> list[Variant]:
    largest = Largest(share, count)
    check_largest(live, largest)
    weights, total = largest_size(live, largest, targets)
    if not weights:
        raise Impossible("the layers' matrices have no other weights that are not zero")
    ratio = total / max(magnitude(live, targets), 1e-30)
    return [Variant("largest others", largest=largest, spared=tuple(targets), weights=weights, magnitude_ratio=ratio)]


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


def _editing(name: str, edits: Iterable[Edit]) -> Variant:
    edits = tuple(edits)
    return Variant(name, edits=edits, weights=len(edits))


def _zeroing(name: str, live: Anatomy, targets: Sequence[Coordinate], weights: Sequence[Coordinate]) -> Variant:
    return replace(_editing(name, map(zero, weights)), magnitude_ratio=magnitude_ratio(live, targets, weights))


def _coordinate(weight: dict[str, Any]) -> Coordinate:
    places = (weight.get(key) for key in ("row", "col", "expert"))
    return Coordinate(weight["layer"], *places, component=weight.get("component") or "")


def _resolved(live: Anatomy, place: Coordinate) -> Coordinate:
    """The coordinate with its component's full path; an AtlasError where the model has no such weight."""
    projection = live.projection(place)
    rows, cols = projection.shape
    within = (place.row is None or place.row < rows) and (place.col is None or place.col < cols)
    experts = projection.n_experts
    if not within or (experts is not None and place.expert >= experts):
        size = f"{rows} rows and {cols} columns" + ("" if experts is None else f" in each of {experts} experts")
        raise AtlasError(
            f"{place} lies outside its matrix",
            where=projection.name,
            remedy=f"it has {size}, numbered from 0; row is the output channel, col the neuron",
        )
    return projection.coordinate(place.row, place.col, place.expert)


def _shortest(factor: float) -> str:
    """A factor in as many digits as tell it from every other."""
    return repr(float(factor)).removesuffix(".0")


def _check_names(name: str, variants: list[Variant]) -> None:
    twice = [each for each, count in Counter(variant.name for variant in variants).items() if count > 1]
    if twice:
        raise AtlasError(
            f"more than one variant is called {twice[0]!r}",
            where=f"ablation {name}",
            remedy="give every factor, format and granularity once",
        )
