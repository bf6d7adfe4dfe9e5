"""The interventions of an ablation in plain values, for the JSON artifact that its readers take them from."""

from dataclasses import asdict
from typing import Any

from weight_atlas.interventions.changes import ActivationsRestored, Edits, LargestZeroed, Quantized
from weight_atlas.interventions.intervention import Intervention
from weight_atlas.live.anatomy import Coordinate
from weight_atlas.quantization.quantizers import Scheme

# Ends the name of a quantization that leaves some weights at their value.
SPARING = ", sparing"


def described(intervention: Intervention) -> dict[str, Any]:
    """An intervention in plain values: its name, kind and size, and the change, by type.

    edits: of weights, in order. restored: weights set to zero whose massive activations stay. scheme, largest: of the
    layers' matrices, whose weights `spared` are left alone.
    """
    change = intervention.change
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
        "matrices": change.matrices if isinstance(change, Quantized) else "all",
        "factor": float(edits[0].factor) if intervention.kind == "scale" else None,
        "weights": change.weights,
        "magnitude_ratio": intervention.magnitude_ratio,
    }


def quantizations(description: dict[str, Any]) -> dict[str, Quantized]:
    """The quantizations among the variants of a description, by name."""
    return {
        record["variant"]: Quantized(
            Scheme(**record["scheme"]), tuple(Coordinate(**place) for place in record["spared"]), record["matrices"]
        )
        for record in description["variants"]
        if record["scheme"] is not None
    }
