"""One part of a streamed model's shards: each fetched once, measured while it is here, and let go."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json
from weight_atlas.settings.models import Spooled
from weight_atlas.settings.quantization import QuantizationMeasures
from weight_atlas.settings.spectra import AttentionKernel
from weight_atlas.settings.super_weights import SuperWeightScreening
from weight_atlas.settings.weights import MatrixWindows, Sparsity
from weight_atlas.streamed.merging import write_tables
from weight_atlas.streamed.part import Measures, Part, clear, spool_folder
from weight_atlas.workflow.location import LIBRARY
from weight_atlas.workflow.provenance import code_digest
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    *,
    histograms: Path,
    profiles: Path,
    spectra: Path,
    kernels: Path,
    errors: Path,
    channels: Path,
    screened: Path,
    structures: Path,
    window_values: Path,
    record: Path,
    scatteritem: str,
    steps: list[str],
    spooled: Spooled,
    attention: AttentionKernel,
    quantization: QuantizationMeasures,
    screening: SuperWeightScreening,
    sparsity: Sparsity,
    windows: MatrixWindows,
    threads: int = 1,
    device: str = "cpu",
) -> None:
    """Write what steps need of the tensors of part K of N, and how its shards came.

    scatteritem: "K-of-N". steps: whose numbers are wanted beside the histograms.
    """
    tensors = read_table(inventory)
    measures = Measures(steps, attention, quantization, screening, sparsity, windows)
    part = Part(checkpoint, tensors, scatteritem, spooled.spool_gb * 1e9, measures)
    folder, code = spool_folder(record), code_digest(LIBRARY / "streamed/part.py", LIBRARY)
    found = part.passed_by(folder, code, threads=threads, device=device)
    outputs = [histograms, profiles, spectra, kernels, errors, channels, screened, structures, window_values]
    write_tables(found, steps, dict(zip(found, outputs, strict=True)), tensors)
    write_json(record, part.record())
    clear(folder)


if __name__ == "__main__":
    run_step(main, globals())
