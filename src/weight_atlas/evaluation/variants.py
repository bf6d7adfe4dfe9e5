"""The variants of a model that an ablation of the configuration stands for, and how each is put into effect."""

from collections.abc import Iterator, Sequence
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
from weight_atlas.super_weights.controls import matched_draws


@dataclass(frozen=True)
class Variant:
    """One way to change a model, reversible.

    edits: of weights, in order. restored: weights that are zeroed while the massive activations that they make stay.
    scheme: quantization of the layers' matrices (see quantized_models.layer_matrices), in which the `spared` weights
    keep their value. factor: what the edits multiply by, of a scaling.
    """

    name: str
    edits: tuple[Edit, ...] = ()
    restored: tuple[Coordinate, ...] = ()
    scheme: Scheme | None = None
    spared: tuple[Coordinate, ...] = ()
    matrices: str = "all"
    factor: float | None = None

    def description(self) -> dict[str, Any]:
        """The variant in plain values, for a JSON artifact."""
        return {
            "variant": self.name,
            "edits": [{**asdict(edit.coordinate), "factor": edit.factor, "offset": edit.offset} for edit in self.edits],
            "restored": [asdict(place) for place in self.restored],
            "scheme": None if self.scheme is None else asdict(self.scheme),
            "spared": [asdict(place) for place in self.spared],
            "matrices": self.matrices,
            "factor": self.factor,
        }


def variants_of(
    name: str, settings: dict[str, Any], live: Anatomy, super_weights: Sequence[Coordinate]
) -> list[Variant]:
    """Expand an ablation of the configuration into variants; none where it is about super weights and there are none.

    name: of the ablation. settings: its `kind` and what belongs to it (see the configuration's schema). super_weights:
    what the detection found, which `weights` of the settings takes the place of.
    """
    kind = settings["kind"]
    by_hand = settings.get("weights")
    targets = list(super_weights) if by_hand is None else [_coordinate(weight) for weight in by_hand]
    if kind == "baseline":
        return [Variant("baseline")]
    if kind == "quantize":
        return _quantized(settings, targets)
    if not targets:
        return []
    groups = [[target] for target in targets] if settings.get("each") else [targets]
    names = [f"{name} {target}" for target in targets] if settings.get("each") else [name]
    variants = []
    for label, group in zip(names, groups, strict=True):
        variants += _of_group(kind, label, group, settings, live, targets)
    return variants


def _of_group(
    kind: str, name: str, group: list[Coordinate], settings: dict[str, Any], live: Anatomy, targets: list[Coordinate]
) -> list[Variant]:
    match kind:
        case "zero":
            return [_editing(name, map(zero, group))]
        case "scale":
            factors = settings["factors"]
            return [
                Variant(f"{name} x {factor:g}", tuple(scale(place, factor) for place in group), factor=factor)
                for factor in factors
            ]
        case "neurons":
            neurons = dict.fromkeys(Coordinate(c.layer, None, c.col, c.expert, c.role, c.component) for c in group)
            return [_editing(name, map(zero, neurons))]
        case "restore":
            return [Variant(name, restored=tuple(group))]
        case "experts":
            experts = dict.fromkeys(
                Coordinate(c.layer, None, None, c.expert, c.role, c.component) for c in group if c.expert is not None
            )
            return [_editing(name, map(zero, experts))] if experts else []
        case "random":
            draws = matched_draws(live, group, draws=settings["draws"], seed=settings["seed"])
            return [_editing(f"{name} {number}", map(zero, draw)) for number, draw in enumerate(draws, start=1)]
        case "largest":
            others = largest_others(live, targets, settings["count"])
            return [_editing(name, map(zero, others))]
    raise ValueError(kind)


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


def _editing(name: str, edits) -> Variant:
    return Variant(name, tuple(edits))


def _quantized(settings: dict[str, Any], targets: list[Coordinate]) -> list[Variant]:
    """Each format at each granularity, plain and, if there are weights to spare, clipped with these restored."""
    variants = []
    for format_, granularity in product(settings["formats"], settings["granularities"]):
        plain = Scheme(format_, granularity, settings["symmetric"])
        variants.append(Variant(str(plain), scheme=plain, matrices=settings["matrices"]))
        if targets:
            clipped = replace(plain, clip=settings["clip"])
            name = f"{plain}, sparing"
            variants.append(Variant(name, scheme=clipped, spared=tuple(targets), matrices=settings["matrices"]))
    return variants


def _coordinate(weight: dict[str, Any]) -> Coordinate:
    missing = {"layer", "row", "col"} - weight.keys()
    if missing:
        raise AtlasError(f"a weight without {', '.join(sorted(missing))}: {weight}", remedy="give layer, row and col")
    return Coordinate(
        weight["layer"], weight["row"], weight["col"], weight.get("expert"), component=weight.get("component", "")
    )
