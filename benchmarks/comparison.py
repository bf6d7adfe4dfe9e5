"""Comparison of two checkpoints: its elementwise pass against reading both, and spectra of changes against the model's.

    OMP_NUM_THREADS=1 python benchmarks/comparison.py [--gigabytes 0.4] [--matrices 6]

CPU seconds on one thread, of files in the page cache: reading is at its fastest then, and the ratio at its worst. The
second copy is the first with a share of its values changed. Peak memory is that of the whole process.

With nothing, 1 % and all of the rows changed, comparing ran at 52 to 57, 52, and 28 to 32 % of the speed of reading
(0.4 GB, two cores of a Xeon shared with other work); before loops counted in the width of their patterns at 41 to 42,
41 to 43, and 19 to 20 %. The goal of 60 % is not met on files in the page cache.
"""

import json
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cyclopts
import pandas as pd
import torch
from make_checkpoint import main as make_checkpoint
from safetensors.torch import load_file, save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.comparison.delta_spectra import delta_spectrum
from weight_atlas.comparison.elementwise import difference, segment_of
from weight_atlas.comparison.sides import Side, Sides
from weight_atlas.comparison.sources import Source, Stored
from weight_atlas.comparison.subspaces import overlap
from weight_atlas.families.inventory import inventory
from weight_atlas.spectra.singular_values import spectrum

TURNS = 5

app = cyclopts.App(help=__doc__)


def cpu_seconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def compared(a: Source, b: Source) -> None:
    """Compare two tensors that are let go before the next are read, as the step does."""
    difference(a, b, segment_of(a.shape))


def changed_copy(folder: Path, copy: Path, share: float) -> None:
    """Copy a checkpoint with this share of the elements of each matrix changed by about a hundredth of its size."""
    shutil.copytree(folder, copy)
    generator = torch.Generator().manual_seed(1)
    for shard in copy.glob("*.safetensors"):
        tensors = load_file(shard)
        for name, tensor in tensors.items() if share else ():
            rows = torch.rand(len(tensor), generator=generator) < share
            noise = 1 + 0.01 * torch.randn(int(rows.sum()), *tensor.shape[1:], generator=generator)
            tensors[name][rows] = (tensor[rows].float() * noise).to(tensor.dtype)
        save_file(tensors, shard)


@app.default
def main(*, gigabytes: float = 0.4, matrices: int = 6, dtype: str = "bfloat16") -> None:
    """Compare checkpoints of so many gigabytes each."""
    torch.set_num_threads(1)
    results: dict[str, object] = {}
    with TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        make_checkpoint(base, gigabytes=gigabytes, dtype=dtype, vocabulary=4096)
        a = Checkpoint.from_folder(base)
        for share in (0.0, 0.01, 1.0):
            copy = Path(folder) / f"copy-{share}"
            changed_copy(base, copy, share)
            b = Checkpoint.from_folder(copy)
            sides = Sides(Side(a, inventory(a)), Side(b, inventory(b)))
            rows = list(sides.pairs.itertuples())

            def read(rows: list = rows, sides: Sides = sides) -> None:
                for row in rows:
                    sides.load(row)

            def compare(rows: list = rows, sides: Sides = sides) -> None:
                for row in rows:
                    compared(*sides.load(row))

            read(), compare(rows[:3])  # files into the cache, kernels compiled
            # In turn, and the least of each: other processes only add to it.
            turns = [(cpu_seconds(read), cpu_seconds(compare)) for _ in range(TURNS)]
            reading, comparing = map(min, zip(*turns, strict=True))
            results[f"{share:.0%} changed"] = {
                "reading both, s": round(reading, 3),
                "comparing, s": round(comparing, 3),
                "share of the speed of reading": round(reading / comparing, 3),
            }
        results["spectra"] = _spectra(sides, rows, matrices)
    results["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(results, indent=2))


def _spectra(sides: Sides, rows: list, count: int) -> dict[str, float]:
    """Seconds of the spectra of a and of b - a, and of the overlaps of subspaces, over the first matrices of layers."""
    chosen = [row for row in rows if row.layer is not pd.NA and row.cols is not pd.NA][:count]
    loaded = [sides.load(row) for row in chosen]
    stored = [(a, b) for a, b in loaded if isinstance(a, Stored) and isinstance(b, Stored) and len(a.shape) == 2]
    return {
        "of the model, s": cpu_seconds(lambda: [spectrum(a.tensor) for a, _ in stored]),
        "of the changes, s": cpu_seconds(lambda: [delta_spectrum(a, b, 1.0) for a, b in stored]),
        "overlaps of 16 dimensions, s": cpu_seconds(lambda: [overlap(a.tensor, b.tensor, 16) for a, b in stored]),
    }


if __name__ == "__main__":
    app()
