"""Reversible changes of a live model, as plain values that can be compared and hashed."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.families.roles import Role
from weight_atlas.interventions.activation_restoring import Sink, super_activations_restored
from weight_atlas.interventions.kinds import INTO_NEURONS
from weight_atlas.interventions.pruning import Largest, largest_zeroed
from weight_atlas.interventions.quantized_inputs import quantized_inputs
from weight_atlas.interventions.quantized_layers import check_editable, quantized_layers
from weight_atlas.live.anatomy import BIAS, Anatomy, Coordinate
from weight_atlas.live.contributions import mean_contribution
from weight_atlas.live.edits import Edit, edited, scale, zero
from weight_atlas.live.experts import forced_routing
from weight_atlas.live.matrices import MLP, matrix_at
from weight_atlas.quantization.inputs import InputScheme
from weight_atlas.quantization.quantizers import Scheme


class Change(Protocol):
    """A reversible change of a live model; those of interventions.rounded_matrices are changes as well.

    weights: how many weights it is made on, a whole neuron or expert counting as one. places: of the weights in
    question, if it is about single ones.
    """

    @property
    def weights(self) -> int: ...

    @property
    def places(self) -> tuple[Coordinate, ...]: ...

    def applied(self, live: Anatomy) -> AbstractContextManager[None]:
        """Change the model while the block lasts; at its end the model is as it was, bit for bit."""
        ...


@dataclass(frozen=True)
class Edits:
    """Edits of weights, made in order; none of them leaves the model as it is."""

    edits: tuple[Edit, ...] = ()

    @property
    def weights(self) -> int:
        return len(self.edits)

    @property
    def places(self) -> tuple[Coordinate, ...]:
        return tuple(edit.coordinate for edit in self.edits)

    @property
    def identical(self) -> bool:
        """Whether the edits leave every weight at its value."""
        return all(edit.factor == 1 and not edit.offset for edit in self.edits)

    def applied(self, live: Anatomy) -> AbstractContextManager[None]:
        return edited(live, self.edits)


@dataclass(frozen=True)
class MeanContribution:
    """One weight w that adds w * mean_input to every token in place of w * x."""

    place: Coordinate
    mean_input: float
    weights: int = 1

    @property
    def places(self) -> tuple[Coordinate, ...]:
        return (self.place,)

    def applied(self, live: Anatomy) -> AbstractContextManager[None]:
        return mean_contribution(live, self.place, self.mean_input)


@dataclass(frozen=True)
class ActivationsRestored:
    """Weights set to zero whose massive activations stay. prompt: token ids that set these off."""

    sinks: tuple[Sink, ...]
    prompt: tuple[int, ...]

    @property
    def weights(self) -> int:
        return len(self.sinks)

    @property
    def places(self) -> tuple[Coordinate, ...]:
        return tuple(sink.place for sink in self.sinks)

    def applied(self, live: Anatomy) -> AbstractContextManager[None]:
        return super_activations_restored(live, self.sinks, torch.tensor([self.prompt]))


@dataclass(frozen=True)
class LargestZeroed:
    """The largest weights of the layers' matrices set to zero, but for those spared."""

    largest: Largest
    spared: tuple[Coordinate, ...]
    weights: int
    places: tuple[Coordinate, ...] = ()

    def applied(self, live: Anatomy) -> AbstractContextManager[None]:
        return largest_zeroed(live, self.largest, self.spared)


@dataclass(frozen=True)
class Quantized:
    """The layers' matrices (see quantized_layers.layer_matrices) quantized, but for weights that are spared."""

    scheme: Scheme
    spared: tuple[Coordinate, ...]
    matrices: str
    weights: int = 0
    places: tuple[Coordinate, ...] = ()

    def applied(self, live: Anatomy) -> AbstractContextManager[None]:
        return quantized_layers(live, self.scheme, self.spared, self.matrices)


@dataclass(frozen=True)
class QuantizedInputs:
    """What the layers' matrices are multiplied with, quantized, the weights quantized beside it or not.

    kept: weights whose super activations keep their value.
    """

    inputs: InputScheme
    kept: tuple[Coordinate, ...]
    matrices: str
    quantized: Quantized | None = None
    weights: int = 0
    places: tuple[Coordinate, ...] = ()

    @contextmanager
    def applied(self, live: Anatomy) -> Iterator[None]:
        with ExitStack() as stack:
            if self.quantized is not None:
                stack.enter_context(self.quantized.applied(live))
            stack.enter_context(quantized_inputs(live, self.inputs, self.kept, self.matrices))
            yield


@dataclass(frozen=True)
class RowsZeroed:
    """Rows of W_E or W_U, one a token, set to zero; where the two are one tensor, of both."""

    matrix: str
    rows: tuple[int, ...]
    places: tuple[Coordinate, ...] = ()

    @property
    def weights(self) -> int:
        return len(self.rows)

    @contextmanager
    def applied(self, live: Anatomy) -> Iterator[None]:
        matrix = matrix_at(live, Coordinate(0, None, None, role=self.matrix))
        check_editable(self.matrix, matrix)
        rows = torch.tensor(self.rows, dtype=torch.int64, device=matrix.device)
        stored = matrix[rows].clone()
        with torch.no_grad():
            matrix[rows] = 0
            try:
                yield
            finally:
                matrix[rows] = stored


@dataclass(frozen=True)
class Forced:
    """Every token sent to the expert of a place, with edits of weights or without."""

    place: Coordinate
    edits: tuple[Edit, ...] = ()

    @property
    def weights(self) -> int:
        return len(self.edits)

    @property
    def places(self) -> tuple[Coordinate, ...]:
        return (self.place,)

    @contextmanager
    def applied(self, live: Anatomy) -> Iterator[None]:
        if self.place.expert is None:
            raise AtlasError(f"{self.place} lies in no expert", remedy="give an expert of a mixture of experts")
        with forced_routing(live.projection(self.place), self.place.expert), edited(live, self.edits):
            yield


def one_by_one(change: Change) -> bool:
    """Whether texts must go through the changed model one at a time, since those of a batch would share a scale."""
    return isinstance(change, QuantizedInputs) and change.inputs.granularity == "tensor"


def zeroed(places: Iterable[Coordinate]) -> Edits:
    """Weights set to zero."""
    return Edits(tuple(map(zero, places)))


def scaled(places: Iterable[Coordinate], factor: float) -> Edits:
    """Weights multiplied by a factor."""
    return Edits(tuple(scale(place, factor) for place in places))


def shifted(places: Sequence[Coordinate], amounts: Sequence[float]) -> Edits:
    """Amounts added to weights, one each."""
    return Edits(tuple(Edit(place, offset=amount) for place, amount in zip(places, amounts, strict=True)))


def neurons_zeroed(places: Iterable[Coordinate]) -> Edits:
    """The neurons of weights of an MLP, whole columns of W_down, set to zero; each once."""
    return zeroed(dict.fromkeys(map(_neuron, places)))


def _neuron(place: Coordinate) -> Coordinate:
    return replace(place, row=None, col=place.row if place.role in INTO_NEURONS else place.col, role="W_down")


def experts_zeroed(live: Anatomy, places: Iterable[Coordinate]) -> Edits:
    """What the experts of weights add set to zero: W_down and, where it has one, its bias.

    Each once, and weights of no expert are left out. Only weights of an MLP's matrices are of an expert here.
    """
    experts = dict.fromkeys(
        replace(place, row=None, col=None, role="W_down")
        for place in places
        if place.expert is not None and place.role in MLP
    )
    edits = [zero(place) for place in experts]
    for place in experts:
        if live.projection(place).bias(Role.W_DOWN, place.expert) is not None:
            edits.append(zero(replace(place, col=0, role=f"W_down{BIAS}")))
    return Edits(tuple(edits))
