"""The analyses that can be made of a model, in the order of a page's sections: each has a folder of results.

It is made by the rule of its name, or by that of an analysis of the same files. A list in code, since the configuration
is checked before there are rules; a test holds it to them.
"""

from typing import Literal, get_args

Analysis = Literal[
    "architecture_summary",
    "weight_statistics",
    "weight_cdf",
    "weight_profile",
    "quantization_sensitivity",
    "sparsity",
    "untrained_rows",
    "token_counts",
    "effective_rank",
    "attention_head",
    "heavy_tail",
    "spectrum_view",
    "spectra_report",
    "embedding_geometry",
    "projection_pca",
    "head_similarity",
    "head_composition",
    "super_weight_screening",
    "super_weights",
    "weight_attribution",
    "super_weight_verification",
    "super_activations",
    "generation",
    "massive_activations",
    "expert_routing",
    "ablation_perplexity",
    "scaling_sweep",
    "quantization_ablation",
    "quantization_recipe",
    "recipe_perplexity",
    "impact_summary",
    "singular_directions",
    "head_circuits",
    "neuron_labels",
    "neuron_effects",
    "cascade",
    "super_weight_cards",
]
ANALYSES: tuple[str, ...] = get_args(Analysis)
# Analyses that the step of another one makes with its own, from the same files.
MADE_WITH = {
    "weight_cdf": "weight_statistics",
    "spectrum_view": "effective_rank",
    "scaling_sweep": "impact_summary",
    "neuron_labels": "neuron_effects",
}
