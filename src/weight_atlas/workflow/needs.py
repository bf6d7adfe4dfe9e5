"""Memory and time that a step asks for: by its name, the size of the stored model, and how often it was tried.

Light: the workflow imports it for every dry run.
"""

import json
from pathlib import Path
from typing import NamedTuple

from weight_atlas.checkpoint.source import local_files

MEGABYTE = 1_000_000


class Need(NamedTuple):
    """Of one step, on the first try.

    copies: how often the stored model's bytes lie in memory at once, beside `megabytes`; 0 for what reads one tensor
    after the other, or a table.
    """

    megabytes: int = 2000
    minutes: int = 30
    copies: float = 0


# Of weights stored in 16 bits and run in 32, twice their bytes, and once more for what is edited and restored.
LIVE = 3
# Steps that are not here need what Need() says.
NEEDS = {
    "fetch_checkpoint": Need(1000, 720),
    "tensor_inventory": Need(1000, 60),
    "architecture_summary": Need(1000),
    "value_histogram": Need(4000, 240),
    "quantization_sensitivity": Need(4000, 240),
    "sparsity": Need(8000, 240),
    "untrained_rows": Need(8000, 120),
    "quantization_recipe": Need(4000, 720),
    "recipe_perplexity": Need(16000, 720, LIVE),
    "input_second_moments": Need(16000, 120, LIVE),
    "singular_values_part": Need(4000, 720),
    "comparison_part": Need(4000, 720),
    "comparison": Need(4000, 240),
    "pair_page": Need(1000),
    "weight_sketch": Need(2000, 120),
    "lineage": Need(4000, 60),
    "side_by_side": Need(1000),
    "attention_kernel": Need(4000, 240),
    "head_composition": Need(4000, 720),
    "singular_directions": Need(8000, 480),
    "head_circuits": Need(8000, 480),
    "heavy_tail": Need(minutes=240),
    "embedding_geometry": Need(4000, 120),
    "projection_pca": Need(4000, 240),
    "head_similarity": Need(4000, 240),
    "corpus": Need(4000, 240),
    "fetch_tokenizer": Need(1000, 60),
    "token_counts_part": Need(4000, 480),
    "token_counts": Need(4000, 480),
    "fetch_vector": Need(1000, 60),
    "token_weights": Need(4000, 60),
    "token_weight_frequency": Need(4000),
    "token_weight_evolution": Need(4000, 60),
    "vector_page": Need(1000),
    "super_weight_screening": Need(4000, 120),
    "super_weights": Need(16000, 120, LIVE),
    "weight_attribution": Need(16000, 120, LIVE),
    "super_weight_verification": Need(16000, 720, LIVE),
    "super_activations": Need(16000, 120, LIVE),
    "super_weight_inheritance": Need(16000, 120, LIVE),
    "generation": Need(16000, 120, LIVE),
    "massive_activations": Need(16000, 240, LIVE),
    "expert_routing": Need(32000, 240, LIVE),
    "windows": Need(4000, 60),
    "interventions": Need(16000, 480, LIVE),
    "cascade": Need(16000, 240, LIVE),
    "super_weight_cards": Need(8000, 60),
    "neuron_scan": Need(8000, 240),
    "neuron_labels": Need(4000),
    "neuron_effects": Need(8000, 60),
    "variant_perplexity": Need(16000, 720, LIVE),
    "task_requests": Need(8000, 120),
    "ablation_eval": Need(16000, 720, LIVE),
    "ablation_impact": Need(4000, 60),
    "quantization_ablation": Need(16000, 240, LIVE),
    "scaling_sweep": Need(1000),
    "run_config": Need(1000),
    "run_configs": Need(1000),
    "drift": Need(8000, 240),
    "series": Need(4000, 60),
    "series_page": Need(1000),
    "findings": Need(1000),
    "atlas": Need(1000),
    "overview": Need(1000),
    "atlas_page": Need(4000),
    "atlas_pair": Need(2000),
    "atlas_vector": Need(2000),
    "atlas_series": Need(2000),
    "atlas_index": Need(1000),
    "atlas_assets": Need(1000),
}


def megabytes(step: str, stored: int, attempt: int) -> int:
    """Memory of a step in MB: at least what small models need, more for large ones, and more with each try.

    stored: bytes of the stored model. The least holds while the copies take at most half of it, so that the other half
    is left for what does not grow with the model.
    """
    need = NEEDS.get(step, Need())
    copies = need.copies * stored / MEGABYTE
    return attempt * max(need.megabytes, round(copies + need.megabytes / 2))


def minutes(step: str, stored: int, attempt: int) -> int:
    """Time of a step in minutes, twice as much for the second try; wide enough on the first for models of any size."""
    return attempt * NEEDS.get(step, Need()).minutes


def stored_bytes(manifest: str | None, source: str | None) -> int:
    """Bytes of a stored model by its manifest, by its local files where there is no manifest yet, else 0.

    A model of the hub that was never fetched has no size yet, and a run plans what its jobs ask for at its beginning.
    """
    if manifest and Path(manifest).is_file():
        try:
            return sum(file["size"] for file in json.loads(Path(manifest).read_text())["files"])
        except (OSError, ValueError, KeyError):  # the step that reads it says what is wrong with it
            return 0
    return sum(Path(file).stat().st_size for file in local_files(source) if Path(file).is_file()) if source else 0
