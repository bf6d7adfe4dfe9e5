"""A variant of a model: one reversible change of its weights, in plain values, and how it is put into effect."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.interventions.activation_restoring import Sink, super_activations_restored
from weight_atlas.interventions.pruning import Largest, largest_zeroed
from weight_atlas.interventions.quantized_layers import quantized_layers
from weight_atlas.interventions.quantizers import Scheme
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import Edit, edited

BASELINE = "baseline"
SPARING = ", sparing"


class Refused(AtlasError):
    """A variant that cannot be put into effect on this model; others may."""


@dataclass(frozen=True)
class Variant:
    """One way to change a model, reversible.

    kind: "baseline" for no change at all, else one of expansion.KINDS. edits: of weights, in order. restored: weights
    that are zeroed while the massive activations that they make stay. scheme: quantization of the layers' matrices (see
    quantized_models.layer_matrices). largest: of the layers' matrices, which weights are zeroed. spared: weights that
    `scheme` and `largest` leave alone. factor: what the edits multiply by, of a scaling. weights: how many are edited,
    restored or zeroed, a whole neuron or expert counting as one. magnitude_ratio: of zeroed single weights, the sum of
    |w| over that of the ablation's weights.
    """

    name: str
    kind: str = BASELINE
    edits: tuple[Edit, ...] = ()
    restored: tuple[Sink, ...] = ()
    scheme: Scheme | None = None
    largest: Largest | None = None
    spared: tuple[Coordinate, ...] = ()
    matrices: str = "all"
    factor: float | None = None
    weights: int = 0
    magnitude_ratio: float | None = None

    def description(self) -> dict[str, Any]:
        """The variant in plain values, for a JSON artifact."""
        return {
            "variant": self.name,
            "kind": self.kind,
            "edits": [{**asdict(edit.coordinate), "factor": edit.factor, "offset": edit.offset} for edit in self.edits],
            "restored": [asdict(sink) for sink in self.restored],
            "scheme": None if self.scheme is None else asdict(self.scheme),
            "largest": None if self.largest is None else asdict(self.largest),
            "spared": [asdict(place) for place in self.spared],
            "matrices": self.matrices,
            "factor": self.factor,
            "weights": self.weights,
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
        tuple(Sink(Coordinate(**sink["place"]), sink["input"]) for sink in record["restored"]),
        None if record["scheme"] is None else Scheme(**record["scheme"]),
        None if record["largest"] is None else Largest(**record["largest"]),
        tuple(Coordinate(**place) for place in record["spared"]),
        record["matrices"],
        record["factor"],
        record["weights"],
        record["magnitude_ratio"],
    )


@contextmanager
def applied(live: Anatomy, variant: Variant, prompt: torch.Tensor) -> Iterator[None]:
    """Put a variant into effect while the block lasts; afterwards the model is as it was, bit for bit.

    prompt: token ids (1, length) that set off massive activations; read only where some are to be restored. Raises
    Refused where the model does not allow the change.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_change(live, variant, prompt))
        except AtlasError as error:
            raise Refused(error.what, where=error.where, remedy=error.remedy) from error
        yield


def _change(live: Anatomy, variant: Variant, prompt: torch.Tensor) -> AbstractContextManager[None]:
    if variant.scheme is not None:
        return quantized_layers(live, variant.scheme, variant.spared, variant.matrices)
    if variant.largest is not None:
        return largest_zeroed(live, variant.largest, variant.spared)
    if variant.restored:
        return super_activations_restored(live, variant.restored, prompt)
    return edited(live, variant.edits)
