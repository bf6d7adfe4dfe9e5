"""The interventions that an ablation of the configuration stands for, and their description for the JSON artifact."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any

import pandas as pd

from weight_atlas.ablations.choices import WITHOUT_WEIGHTS, check_weights
from weight_atlas.ablations.given_weights import Target, refuse_overlaps, target_of, tied
from weight_atlas.ablations.quantization_variants import quantization_variants
from weight_atlas.ablations.super_experts import NoExperts, super_expert_variants
from weight_atlas.ablations.token_rows import token_row_variants
from weight_atlas.interventions.activation_restoring import Sink
from weight_atlas.interventions.changes import (
    ActivationsRestored,
    Edits,
    LargestZeroed,
    Quantized,
    QuantizedInputs,
    experts_zeroed,
    neurons_zeroed,
    scaled,
    zeroed,
)
from weight_atlas.interventions.controls import magnitude, magnitude_ratio, random_likes
from weight_atlas.interventions.intervention import UNCHANGED, Impossible, Intervention, Refused
from weight_atlas.interventions.kinds import ABLATIONS, BASELINE
from weight_atlas.interventions.pruning import Largest, check_largest, largest_size
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import MLP
from weight_atlas.settings.ablations import Kinds, Plain, Quantize, Random, Scale, SuperExperts, TokenRows
from weight_atlas.settings.ablations import Largest as LargestSettings
from weight_atlas.settings.base import whole
from weight_atlas.settings.messages import checked

# Kinds of change that are made of other than the weights in question.
WITHOUT_PLACES = ("quantize", *WITHOUT_WEIGHTS)


@dataclass(frozen=True)
class Skipped:
    """A kind of change, or a variant of one, that this model does not allow, and why."""

    variant: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Expansion:
    """The interventions of an ablation on one model, its variants, and what of it the model does not allow."""

    variants: list[Intervention]
    skipped: list[Skipped]

    def description(self, name: str) -> dict[str, Any]:
        """The ablation in plain values, for a JSON artifact."""
        return {
            "ablation": name,
            "variants": [described(variant) for variant in self.variants],
            "skipped": [asdict(each) for each in self.skipped],
        }


def without(expansion: Expansion, refused: dict[str, Refused]) -> Expansion:
    """The expansion without the variants, by name, that the model does not allow; the log says why.

    Raises the last refusal where no variant is left: its reason is then not particular to one variant.
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


@dataclass(frozen=True)
class Targets:
    """What an ablation is about.

    targets: each is changed as one. inputs: for each, the activation that set it off where it was detected, None for a
    given one. prompt: token ids that set off their massive activations. token_weights: of the vector that says which
    tokens are of low weight. experts: the table of expert_routing, None for a model without experts.
    """

    targets: tuple[Target, ...]
    inputs: tuple[float | None, ...]
    prompt: tuple[int, ...]
    token_weights: pd.DataFrame | None = None
    experts: pd.DataFrame | None = None

    @property
    def places(self) -> tuple[Coordinate, ...]:
        return tuple(place for target in self.targets for place in target.places)


def variants_of(
    name: str,
    settings: dict[str, Any],
    live: Anatomy,
    found: Sequence[Coordinate],
    inputs: Sequence[float] = (),
    prompt: Sequence[int] = (),
    token_weights: pd.DataFrame | None = None,
    experts: pd.DataFrame | None = None,
) -> Expansion:
    """Expand an ablation of the configuration; the one named "baseline" is the model as it is.

    settings: for each kind of change that is wanted, its settings (None: not wanted), and `weights`, which take the
    place of `found`, the detected super weights. inputs, prompt: of the detected weights; token_weights, experts: see
    Targets. What the model does not allow is skipped, and the log says so. Raises AtlasError for weights that the model
    does not have, and for settings that settings.ablations.Kinds does not allow.
    """
    if name == BASELINE:
        return Expansion([replace(UNCHANGED, name=BASELINE)], [])
    check_weights(settings, f"ablation {name}")
    given = settings.get("weights")
    named = [target_of(live, weight) for weight in (map(asdict, found) if given is None else given)]
    known = list(inputs) if given is None else []
    # Two spellings of one place are one place: to scale it twice would square the factor.
    resolved = dict(zip_longest(named, known[: len(named)]))
    if len(resolved) < len(named):
        print(f"{name}: {len(named) - len(resolved)} weights are named twice and count once", flush=True)
    refuse_overlaps(live, list(resolved))
    wanted = {kind: settings[kind] for kind in ABLATIONS if settings.get(kind) is not None}
    kinds = checked(Kinds, wanted, f"ablation {name}")
    targets = Targets(tuple(resolved), tuple(resolved.values()), tuple(prompt), token_weights, experts)
    both = " (W_E and W_U, which are one)" if tied(live, targets.targets) else ""
    variants: list[Intervention] = []
    skipped = []
    for kind in wanted:
        try:
            if not targets.places and kind not in WITHOUT_PLACES:
                raise Impossible("no super weights were detected")
            made = MAKERS[kind](live, targets, getattr(kinds, kind))
            variants += [replace(variant, name=f"{name}: {variant.name}{both}") for variant in made]
        except Impossible as error:
            if not (isinstance(error, NoExperts) and len(wanted) > 1):
                skipped.append(Skipped(f"{name}: {kind}", kind, str(error)))
            print(f"{name}: no variants of {kind}: {error}", flush=True)
    return Expansion(variants, skipped)


def _zero(live: Anatomy, targets: Targets, _: Plain) -> list[Intervention]:
    return [_zeroing("zero", "zeroed", live, targets, targets.places)]


def _each(live: Anatomy, targets: Targets, _: Plain) -> list[Intervention]:
    return [_zeroing("each", f"only {target.name}", live, targets, target.places) for target in targets.targets]


def _scale(live: Anatomy, targets: Targets, settings: Scale) -> list[Intervention]:
    # A whole factor is an integer in the description, as users write it.
    return [
        Intervention("scale", scaled(targets.places, whole(factor)), name=f"x {_shortest(factor)}")
        for factor in settings.factors
    ]


def _neurons(live: Anatomy, targets: Targets, _: Plain) -> list[Intervention]:
    if any(place.role not in MLP for place in targets.places):
        raise Impossible("only weights of W_down, W_gate and W_up are of a neuron")
    return [Intervention("neurons", neurons_zeroed(targets.places), name="neurons zeroed")]


def _restore(live: Anatomy, targets: Targets, _: Plain) -> list[Intervention]:
    if any(place.role != "W_down" for place in targets.places):
        raise Impossible("only weights of W_down write activations that are restored")
    sinks = tuple(map(Sink, targets.places, targets.inputs))
    return [Intervention("restore", ActivationsRestored(sinks, targets.prompt), name="activation restored")]


def _experts(live: Anatomy, targets: Targets, _: Plain) -> list[Intervention]:
    change = experts_zeroed(live, targets.places)
    if not change.edits:
        raise Impossible("none of the weights lies in an expert")
    return [Intervention("experts", change, name="experts removed")]


def _random(live: Anatomy, targets: Targets, settings: Random) -> list[Intervention]:
    groups = [target.places for target in targets.targets]
    drawn = random_likes(live, groups, draws=settings.draws, seed=settings.seed)
    if not drawn:
        raise Impossible("their matrices have no others like them that are not zero")
    return [_zeroing("random", f"random {draw}", live, targets, places, draw) for draw, places in enumerate(drawn, 1)]


def _largest(live: Anatomy, targets: Targets, settings: LargestSettings) -> list[Intervention]:
    largest = Largest(settings.share, settings.count)
    check_largest(live, largest)
    weights, total = largest_size(live, largest, targets.places)
    if not weights:
        raise Impossible("the layers' matrices have no other weights that are not zero")
    ratio = total / max(magnitude(live, targets.places), 1e-30)
    change = LargestZeroed(largest, targets.places, weights)
    return [Intervention("largest", change, name="largest others", magnitude_ratio=ratio)]


def _quantize(live: Anatomy, targets: Targets, settings: Quantize) -> list[Intervention]:
    return quantization_variants(targets.places, settings)


def _token_rows(live: Anatomy, targets: Targets, settings: TokenRows) -> list[Intervention]:
    if targets.token_weights is None:
        raise Impossible("the weights of the tokens are not given")
    return token_row_variants(live, targets.token_weights, settings)


def _super_experts(live: Anatomy, targets: Targets, settings: SuperExperts) -> list[Intervention]:
    return super_expert_variants(live, targets.experts, settings)


MAKERS: dict[str, Callable[..., list[Intervention]]] = {
    "zero": _zero,
    "each": _each,
    "scale": _scale,
    "neurons": _neurons,
    "restore": _restore,
    "experts": _experts,
    "super_experts": _super_experts,
    "random": _random,
    "largest": _largest,
    "quantize": _quantize,
    "token_rows": _token_rows,
}


def _zeroing(
    kind: str, name: str, live: Anatomy, targets: Targets, places: Sequence[Coordinate], draw: int = 0
) -> Intervention:
    ratio = magnitude_ratio(live, targets.places, places)
    return Intervention(kind, zeroed(places), draw=draw, name=name, magnitude_ratio=ratio)


def _shortest(factor: float) -> str:
    """A factor in as many digits as tell it from every other."""
    return repr(float(factor)).removesuffix(".0")


def described(intervention: Intervention) -> dict[str, Any]:
    """An intervention in plain values: its name, kind and size, and the change, by type.

    edits: of weights, in order. restored: weights set to zero whose massive activations stay. scheme, largest: of the
    layers' matrices, whose weights `spared` are left alone. inputs: what is done to their inputs, where the super
    activations of the weights `kept` are left alone.
    """
    inputs = intervention.change if isinstance(intervention.change, QuantizedInputs) else None
    change = intervention.change if inputs is None else inputs.quantized
    edits = change.edits if isinstance(change, Edits) else ()
    spared = change.spared if isinstance(change, Quantized | LargestZeroed) else ()
    return {
        "variant": intervention.name,
        "kind": intervention.kind,
        "edits": [{**asdict(edit.coordinate), "factor": edit.factor, "offset": edit.offset} for edit in edits],
        "restored": [asdict(sink) for sink in change.sinks] if isinstance(change, ActivationsRestored) else [],
        "scheme": asdict(change.scheme) if isinstance(change, Quantized) else None,
        "largest": asdict(change.largest) if isinstance(change, LargestZeroed) else None,
        "spared": [asdict(place) for place in spared],
        "inputs": None if inputs is None else asdict(inputs.inputs),
        "kept": [] if inputs is None else [asdict(place) for place in inputs.kept],
        "matrices": inputs.matrices if inputs else change.matrices if isinstance(change, Quantized) else "all",
        "factor": float(edits[0].factor) if intervention.kind == "scale" else None,
        "weights": intervention.change.weights,
        "magnitude_ratio": intervention.magnitude_ratio,
    }
