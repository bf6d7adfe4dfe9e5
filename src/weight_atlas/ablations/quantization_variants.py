"""The interventions that quantize the matrices of layers and what these are multiplied with."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from weight_atlas.interventions.changes import Quantized, QuantizedInputs
from weight_atlas.interventions.intervention import Intervention
from weight_atlas.live.anatomy import Coordinate
from weight_atlas.quantization.inputs import InputScheme
from weight_atlas.quantization.quantizers import Scheme
from weight_atlas.settings.ablations import Quantize

# Ends the name of a quantization that leaves some weights at their value, and of one that leaves their activations.
SPARING, KEEPING = ", sparing", ", keeping"


def quantization_variants(places: Sequence[Coordinate], settings: Quantize) -> list[Intervention]:
    """Each format at each granularity, plain and sparing some weights; then with quantized activations.

    places: the weights to spare. Sparing clips all others first. What matrices are multiplied with is quantized beside
    weights as they are and beside quantized ones, with all of it rounded and with super activations kept.
    """
    of_weights = [
        Intervention("quantize", change, name=name)
        for format_, granularity in product(settings.formats, settings.granularities)
        for name, change in _of_weights(Scheme(format_, granularity, settings.symmetric), places, settings)
    ]
    return of_weights + [
        Intervention("quantize", change, name=name)
        for scheme, beside in product(settings.activations, (None, *settings.activations_beside))
        for name, change in _of_inputs(scheme, beside, places, settings)
    ]


def _of_weights(plain: Scheme, places: Sequence[Coordinate], settings: Quantize) -> Iterator[tuple[str, Quantized]]:
    yield str(plain), Quantized(plain, (), settings.matrices)
    if places:
        yield f"{plain}{SPARING}", Quantized(replace(plain, clip=settings.clip), tuple(places), settings.matrices)


def _of_inputs(
    name: str, beside: str | None, places: Sequence[Coordinate], settings: Quantize
) -> Iterator[tuple[str, QuantizedInputs]]:
    inputs = InputScheme.named(name, symmetric=settings.symmetric)
    of_weights: list[tuple[str, Quantized | None]] = [("", None)]
    if beside is not None:
        format_, _, granularity = beside.partition("/")
        of_weights = list(_of_weights(Scheme(format_, granularity, settings.symmetric), places, settings))
    for said, quantized in of_weights:
        ending = SPARING if said.endswith(SPARING) else ""
        start = f"{said.removesuffix(SPARING)} + " if said else ""
        for kept in ((), tuple(places)) if places else ((),):
            change = QuantizedInputs(inputs, kept, settings.matrices, quantized)
            yield f"{start}inputs {inputs}{ending}{KEEPING if kept else ''}", change


def quantizations(description: dict[str, Any]) -> dict[str, Quantized | QuantizedInputs]:
    """The quantizations, of weights or of inputs, among the variants of a description, by name."""
    return {
        record["variant"]: _quantization(record)
        for record in description["variants"]
        if record["scheme"] is not None or record["inputs"] is not None
    }


def _quantization(record: dict[str, Any]) -> Quantized | QuantizedInputs:
    spared, kept = (tuple(Coordinate(**place) for place in record[name]) for name in ("spared", "kept"))
    of_weights = record["scheme"] and Quantized(Scheme(**record["scheme"]), spared, record["matrices"])
    if record["inputs"] is None:
        return of_weights
    return QuantizedInputs(InputScheme(**record["inputs"]), kept, record["matrices"], of_weights)
