"""The tables that parts of a streamed model write, and that steps put together in place of reading the weights."""

# Of each table the step whose table it becomes rows of; what value_histogram reads is always measured.
STEPS = {
    "histograms": "value_histogram",
    "profiles": "value_histogram",
    "spectra": "singular_values",
    "kernels": "attention_kernel",
    "errors": "quantization_sensitivity",
    "channels": "quantization_sensitivity",
    "screened": "super_weight_screening",
    "structures": "sparsity",
    "window_values": "weight_profile",
}
ALWAYS = "value_histogram"
POSITION = "position"  # column of each: of what the row is of, its place in the inventory; of a window, in the settings

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
