"""Speed and memory of value_histogram, beside a plain read of the same files and beside the naive way in torch.

python benchmarks/value_histogram.py --gigabytes 0.5 2 8 --threads 1 4

Made checkpoints go to a temporary folder and are removed. Files are read once before timing: all ways read from the
page cache. The naive way (float32 moments, a sort for the percentiles) is timed on as many layers as fit in half a
minute.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cyclopts
import pandas as pd
import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.families.pieces import load_piece
from weight_atlas.weights.streaming import portions, readings

ROOT = Path(__file__).parents[1]
PERCENTILES = torch.tensor([0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9]) / 100
NAIVE_SECONDS = 30.0
REPEATS = 3
MANY = cyclopts.Parameter(consume_multiple=True)


def main(
    *,
    gigabytes: Annotated[list[float] | None, MANY] = None,
    threads: Annotated[list[int] | None, MANY] = None,
    dtype: str = "bfloat16",
    folder: Path | None = None,
) -> None:
    """Print a table: one line for each size and number of threads.

    gigabytes: sizes of the checkpoints; folder: where to make them (default: the system's temporary folder).
    """
    rows = []
    for size in gigabytes or [0.5, 2.0]:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            model = Path(scratch) / "model"
            script(ROOT / "benchmarks/make_checkpoint.py", model, "--gigabytes", size, "--dtype", dtype)
            rows += [line(model, Path(scratch), count) for count in threads or [1, 4]]
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g"))


def line(model: Path, scratch: Path, threads: int) -> dict[str, object]:
    """Measure one checkpoint with one number of threads."""
    torch.set_num_threads(threads)
    manifest, inventory = scratch / "checkpoint.json", scratch / "inventory.parquet"
    files = [{"name": path.name, "size": path.stat().st_size} for path in sorted(model.iterdir())]
    manifest.write_text(json.dumps({"source": str(model), "revision": None, "family": None, "files": files}))
    script(ROOT / "scripts/tensor_inventory.py", "--checkpoint", manifest, "--table", inventory)
    tensors, checkpoint = pd.read_parquet(inventory), open_checkpoint(manifest)
    total = tensors["bytes"].sum() / 1e9

    def counted() -> None:
        for _ in readings(portions(tensors, checkpoint, load_piece), threads):
            pass

    plain_read(model)
    counted()  # compiles, or loads what is compiled
    read = total / min(timed(lambda: plain_read(model)) for _ in range(REPEATS))
    exact = total / min(timed(counted) for _ in range(REPEATS))
    naive = naive_speed(checkpoint)
    seconds, peak = step(manifest, inventory, scratch, threads)
    largest = tensors["bytes"].max() / 1e6
    return {
        "GB": total,
        "threads": threads,
        "plain read, GB/s": read,
        "value_histogram, GB/s": exact,
        "of plain read": exact / read,
        "naive torch, GB/s": naive,
        "times naive": exact / naive,
        "whole step, s": seconds,
        "largest tensor, MB": largest,
        "peak memory, MB": peak,
        "allowed, MB": 500 + 4 * largest,
    }


def script(path: Path, *arguments: object) -> None:
    subprocess.run([sys.executable, path, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plain_read(model: Path) -> None:
    """Read all shards through one buffer, without looking at what is in it."""
    buffer = bytearray(4 << 20)
    for path in sorted(model.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def naive_speed(checkpoint: Checkpoint) -> float:
    """GB/s of reading a tensor and asking torch for one statistic after the other."""
    done, start = 0, time.perf_counter()
    matrices = [name for name, entry in checkpoint.entries.items() if len(entry.shape) == 2 and ".layers." in name]
    for name in matrices:
        naive_statistics(checkpoint.read(name))
        done += checkpoint.entries[name].bytes
        if time.perf_counter() - start > NAIVE_SECONDS:
            break
    return done / 1e9 / (time.perf_counter() - start)


def naive_statistics(tensor: torch.Tensor) -> list[torch.Tensor]:
    x = tensor.float().flatten()
    mean, std = x.mean(), x.std()
    z = (x - mean) / std
    ordered = x.sort().values  # torch.quantile refuses tensors of this size
    percentiles = ordered[(PERCENTILES * (len(x) - 1)).long()]
    sums = [(z**3).mean(), (z**4).mean(), x.abs().sum(), x.norm(), x.abs().max(), x.abs().argmax()]
    counts = [x.isnan().sum(), x.isinf().sum(), (x == 0).sum(), *((x.abs() <= t).sum() for t in (1e-6, 1e-4, 1e-2))]
    return [mean, std, percentiles, *sums, *counts]


# A process's peak memory includes that of the process it was started from: a small one has to stand between.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def step(manifest: Path, inventory: Path, scratch: Path, threads: int) -> tuple[float, float]:
    """Seconds and peak memory in MB of the workflow's step in a process of its own."""
    command = [sys.executable, ROOT / "scripts/value_histogram.py", "--threads", threads]
    command += ["--checkpoint", manifest, "--inventory", inventory]
    command += ["--table", scratch / "histograms.parquet", "--left-out", scratch / "left_out.csv"]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, command)], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds, peak = map(float, measured.stdout.split())
    return seconds, peak * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    cyclopts.run(main)
