"""Memory and time that a step asks for: by its name, the size of its model, and how often it was tried.

Light: the workflow imports it for every dry run. Sizes are what headers say: in the manifest and the inventory of
tensors, which are there when a job is submitted; before that, local files or the hub's list of files.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from weight_atlas.checkpoint.local_files import local_files
from weight_atlas.checkpoint.source import HubSource, parse_source

MEGABYTE, GIGABYTE = 1_000_000, 1_000_000_000
# Bytes of a stored model from which a GPU is worth waiting for: of smaller ones the spectra take seconds or minutes.
SPECTRA_ON_GPU = 2 * GIGABYTE
LONGEST = 24 * 60  # minutes, on the first try: what most partitions allow


class Size(NamedTuple):
    """Of a stored model: its bytes, and the elements of its largest tensor; 0 where that is not known."""

    stored: int = 0
    largest: int = 0


class Need(NamedTuple):
    """Of one step, on the first try.

    megabytes, minutes: with a small model. copies: how often the stored model's bytes lie in memory at once. tensors:
    how often its largest tensor does, in float32. per_gigabyte: minutes for each GB of the stored model.
    """

    megabytes: int = 1500
    minutes: int = 30
    copies: float = 0
    tensors: float = 0
    per_gigabyte: float = 0


# What reads tables, or writes pages, needs what Need() says; so does a step that is not here.
READS = Need(2000, 60, tensors=4, per_gigabyte=5)  # one tensor after the other
SPECTRA = Need(2000, 60, tensors=6, per_gigabyte=20)  # a matrix in float64, its Gram matrix, and its shuffled copy
# Of weights stored in 16 bits and run in 32, twice their bytes, and once more for what is edited and restored. The
# libraries of CUDA alone take some GB of the machine's memory.
RUNS = Need(6000, 60, copies=3, per_gigabyte=15)
RUNS_OFTEN = RUNS._replace(per_gigabyte=60)
TEXTS = Need(4000, 240)  # as large as the corpora are, which nobody knows before
NEEDS = {
    "fetch_checkpoint": Need(1000, 60, per_gigabyte=5),
    "stream_part": Need(3000, 60, tensors=6, per_gigabyte=30),  # what READS and SPECTRA do, as the shards arrive
    **dict.fromkeys(
        ("value_histogram", "weight_profile", "untrained_rows", "sparsity", "super_weight_screening", "weight_sketch",
         "comparison_part", "comparison", "drift", "embedding_geometry", "projection_pca", "head_similarity",
         "token_classes"),
        READS,
    ),
    **dict.fromkeys(
        ("singular_values_part", "attention_kernel", "singular_directions", "head_circuits",
         "quantization_sensitivity", "quantization_recipe", "neuron_scan", "neuron_effects", "super_weight_cards"),
        SPECTRA,
    ),
    # Beside its matrices, four numbers for every pair of heads: 1.2 GB for 80 layers of 64 heads.
    "head_composition": SPECTRA._replace(megabytes=3500),
    **dict.fromkeys(
        ("input_second_moments", "super_weights", "weight_attribution", "super_activations", "generation",
         "super_weight_inheritance", "massive_activations", "expert_routing", "cascade"),
        RUNS,
    ),
    **dict.fromkeys(
        ("recipe_perplexity", "super_weight_verification", "interventions", "variant_perplexity", "ablation_eval",
         "quantization_ablation"),
        RUNS_OFTEN,
    ),
    **dict.fromkeys(("corpus", "token_counts_part", "token_counts", "task_requests"), TEXTS),
    "intervention_targets": TEXTS._replace(tensors=READS.tensors, per_gigabyte=READS.per_gigabyte),
    **dict.fromkeys(("heavy_tail", "token_weights", "token_weight_evolution", "lineage", "series"), Need(3000, 120)),
    **dict.fromkeys(("impact_summary", "token_weight_frequency", "atlas"), Need(3000, 60)),
}  # fmt: skip


def megabytes(step: str, model: Size, attempt: int) -> int:
    """Memory of a step in MB: what small models need and what grows with the model, times the number of the attempt."""
    need = NEEDS.get(step, Need())
    grown = need.copies * model.stored + need.tensors * 4 * model.largest
    return attempt * (need.megabytes + round(grown / MEGABYTE))


def minutes(step: str, model: Size, attempt: int) -> int:
    """Time of a step in minutes, at most a day, times the number of the attempt."""
    need = NEEDS.get(step, Need())
    return attempt * min(LONGEST, need.minutes + round(need.per_gigabyte * model.stored / GIGABYTE))


def size_of(
    manifests: Iterable[Any], inventories: Iterable[Any], entries: Iterable[Mapping[str, Any]], *, ask: bool
) -> Size:
    """The size of a job's model, of several the largest, as far as it is known.

    manifests, inventories: where these are once they are made. entries: of the configuration, which say where a model
    lies that has no manifest yet. ask: whether the hub may be asked for such.
    """
    stored = [_listed(*state) for path in manifests if (state := _state(path))]
    stored = stored or [_at_source(entry["source"], entry["revision"], ask) for entry in entries]
    return Size(
        max(stored, default=0), max((_largest(*state) for path in inventories if (state := _state(path))), default=0)
    )


def _state(path: Any) -> tuple[str, int] | None:
    """A file and when it was written: what is read of it is kept for as long as that stays. None if there is none."""
    try:
        return str(path), Path(path).stat().st_mtime_ns
    except (OSError, TypeError):
        return None


@cache
def _listed(manifest: str, written: int) -> int:
    """Bytes of a model's files by its manifest."""
    try:
        return sum(file["size"] for file in json.loads(Path(manifest).read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError):  # the step that reads it says what is wrong with it
        return 0


@cache
def _largest(inventory: str, written: int) -> int:
    """Elements of the largest tensor of an inventory, from the statistics in the file's footer."""
    import pyarrow
    import pyarrow.parquet

    try:
        footer = pyarrow.parquet.read_metadata(inventory)
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        columns = [group.column(number) for group in groups for number in range(group.num_columns)]
        return max(int(column.statistics.max) for column in columns if column.path_in_schema == "parameters")
    except (OSError, ValueError, AttributeError, TypeError, pyarrow.ArrowException):  # as above
        return 0


def _at_source(source: str, revision: str | None, ask: bool) -> int:
    """Bytes of the files that a model is read from."""
    parsed = parse_source(source)
    if isinstance(parsed, HubSource):
        return _on_hub(parsed, revision) if ask else 0
    return _of_files(source)


@cache
def _of_files(source: str) -> int:
    """Bytes of a local source's files as a process finds them first: dozens of jobs of a model ask."""
    return sum(Path(file).stat().st_size for file in local_files(source) if Path(file).is_file())


@cache
def _on_hub(source: HubSource, revision: str | None) -> int:
    """Bytes of the files that a hub model has, from one request; 0 where the hub does not say."""
    from weight_atlas.checkpoint.listed_size import listed_bytes
    from weight_atlas.errors import AtlasError

    try:
        return listed_bytes(source, revision)
    except (AtlasError, OSError):  # the step that fetches it says why
        return 0
