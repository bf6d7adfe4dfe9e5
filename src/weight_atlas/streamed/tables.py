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
