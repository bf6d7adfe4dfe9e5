"""What the configuration asks to be measured of a streamed model. Light: the workflow uses it for every dry run."""

from collections.abc import Callable, Mapping
from typing import Any

from weight_atlas.settings.base import Settings
from weight_atlas.settings.quantization import QuantizationMeasures
from weight_atlas.settings.spectra import AttentionKernel
from weight_atlas.settings.super_weights import SuperWeightScreening
from weight_atlas.settings.weights import MatrixWindows, Sparsity

# What is measured for an analysis while the weights pass by.
MEASURED_FOR = {
    "weight_profile": ["weight_profile"],
    "quantization_sensitivity": ["quantization_sensitivity"],
    "sparsity": ["sparsity"],
    "effective_rank": ["singular_values"],
    "heavy_tail": ["singular_values"],
    "spectrum_view": ["singular_values"],
    "attention_head": ["attention_kernel"],
    "spectra_report": ["singular_values", "attention_kernel"],
    "super_weight_screening": ["super_weight_screening"],
}


def measured_for(analyses: list[str]) -> list[str]:
    """The steps whose numbers a streamed model's parts measure for these analyses, sorted."""
    return sorted({step for analysis in analyses for step in MEASURED_FOR.get(analysis, ())})


# The sections of the configuration that bear on what is measured, and which of their keys do.
_SECTIONS: dict[str, type[Settings]] = {
    "attention_kernel": AttentionKernel,
    "quantization_sensitivity": QuantizationMeasures,
    "sparsity": Sparsity,
    "super_weight_screening": SuperWeightScreening,
    "weight_profile": MatrixWindows,
}


def part_options(
    entry: Mapping[str, Any], analyses: list[str], section: Callable[[str], Mapping[str, Any]]
) -> dict[str, Any]:
    """What is measured of a part of a model, and how. entry: the model's; section(name): with the model's values."""
    of_sections = {key: section(name)[key] for name, keys in _SECTIONS.items() for key in keys.model_fields}
    return {"steps": measured_for(analyses), "spool_gb": entry["spool_gb"], **of_sections}
