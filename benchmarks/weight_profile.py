"""CPU time of the profiles of a checkpoint's matrices, beside its histograms and a plain read of the same files.

python benchmarks/weight_profile.py --dtype bfloat16

A made checkpoint goes to a temporary folder and is removed. One thread; files in the page cache; the best of some runs.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cyclopts
import pandas as pd
import torch
from safetensors.torch import save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.dtypes import DTYPES
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import load_piece
from weight_atlas.weights.profile import Profiler
from weight_atlas.weights.streaming import _blocks, portions, readings
from weight_atlas.weights.value_histogram import block_histogram

SHAPES = {"q": (2048, 2048), "k": (512, 2048), "up": (5632, 2048), "down": (2048, 5632), "embedding": (32000, 2048)}
REPEATS = 3


def main(*, dtype: str = "bfloat16", folder: Path | None = None) -> None:
    """Print a table: nanoseconds of CPU time an element, of each way to go through the checkpoint."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        random = torch.Generator().manual_seed(0)
        tensors = {name: torch.randn(*shape, generator=random) * 0.02 for name, shape in SHAPES.items()}
        path = Path(scratch) / "model.safetensors"
        save_file({name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}, path)
        checkpoint = Checkpoint.from_folder(Path(scratch))
        table = inventory(checkpoint, family="llama", allow_other=True)

        def blocks(name: str) -> Callable:
            entry = checkpoint.entries[name]
            numpy = DTYPES[entry.dtype].numpy
            return lambda: (block.view(numpy) for block in _blocks(path, entry.offset, entry.bytes))

        def read() -> None:
            for name in SHAPES:
                for _ in blocks(name)():
                    pass

        def histograms() -> None:
            for name, shape in SHAPES.items():
                block_histogram(blocks(name), checkpoint.entries[name].dtype, shape)

        def profiles() -> None:
            for name, shape in SHAPES.items():
                profiler = Profiler(checkpoint.entries[name].dtype, shape)
                for block in blocks(name)():
                    profiler.add(block)
                profiler.profile()

        def both() -> None:
            list(readings(portions(table, checkpoint, load_piece)))

        elements = sum(rows * columns for rows, columns in SHAPES.values())
        ways = {"plain read": read, "histograms": histograms, "profiles": profiles, "both, one reading": both}
        rows = [{"way": name, "ns an element": seconds(way) / elements * 1e9} for name, way in ways.items()]
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g"))


def seconds(way: Callable[[], None]) -> float:
    way()  # compiles, or loads what is compiled
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        way()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    cyclopts.run(main)
