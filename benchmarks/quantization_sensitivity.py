"""Speed of quantization errors beside the naive way in torch, one scheme at a time.

python benchmarks/quantization_sensitivity.py --rows 4096 --cols 4096 --dtype bfloat16

Naive: a float32 copy of the matrix, rounded there and back, subtracted, and its norm taken, anew for each scheme. Ours:
all schemes in one reading, rows and all; and schemes for whole tensors from the counts of values, once these are there.
Clipping searches stand apart: the naive way repeats everything for each share of the range. Both on one thread.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cyclopts
import numpy as np
import pandas as pd
import torch

from weight_atlas.quantization.by_histogram import Values, extent_of, sums_by_values
from weight_atlas.quantization.errors import Source, matrix_errors
from weight_atlas.quantization.quantizers import Scheme, quantized
from weight_atlas.settings.quantization import SCHEMES
from weight_atlas.weights.value_histogram import value_histogram

REPEATS = 3


def main(*, rows: int = 4096, cols: int = 4096, dtype: str = "bfloat16") -> None:
    """Print a table: a line for each group of schemes, in ns per weight and scheme."""
    torch.set_num_threads(1)
    weights = (torch.randn(rows, cols, generator=torch.Generator().manual_seed(0)) * 0.02).to(getattr(torch, dtype))
    schemes = [Scheme.named(name) for name in SCHEMES]
    plain = [scheme for scheme in schemes if not scheme.clipped]
    groups = {
        "absmax, by channel and group": [scheme for scheme in plain if scheme.granularity != "tensor"],
        "absmax, whole tensor, rows too": [scheme for scheme in plain if scheme.granularity == "tensor"],
        "clipped, by group": [s for s in schemes if s.clipped and s.granularity != "tensor"],
    }
    lines = [line(name, weights, chosen) for name, chosen in groups.items()]
    whole = [scheme for scheme in plain if scheme.granularity == "tensor"]
    lines.append(from_histogram("absmax, whole tensor, by histogram", weights, whole))
    searched = [s for s in schemes if s.clipped and s.granularity == "tensor"]
    lines.append(from_histogram("clipped, whole tensor, by histogram", weights, searched))
    print(pd.DataFrame(lines).to_markdown(index=False, floatfmt=".3g"))


def line(name: str, weights: torch.Tensor, schemes: Sequence[Scheme]) -> dict[str, object]:
    """All schemes of a group in one reading against the naive way."""
    extent = extent_of(values_of(weights), list(schemes))
    with ThreadPoolExecutor(1) as pool:
        ours = seconds(lambda: matrix_errors(Source(weights, extent), schemes, pool))
    return compared(name, weights, schemes, ours)


def from_histogram(name: str, weights: torch.Tensor, schemes: Sequence[Scheme]) -> dict[str, object]:
    """The sums from the counts of values, which value_histogram has made before, against the naive way."""
    values = values_of(weights)

    def ours() -> None:
        extent = extent_of(values, list(schemes))
        for scheme in schemes:
            sums_by_values(values, extent, scheme)

    return compared(name, weights, schemes, seconds(ours))


def compared(name: str, weights: torch.Tensor, schemes: Sequence[Scheme], ours: float) -> dict[str, object]:
    """One line of the table."""
    theirs = seconds(lambda: [naive(weights, scheme) for scheme in schemes], repeats=1)
    scale = 1e9 / weights.numel() / len(schemes)
    return {
        "schemes": name,
        "number": len(schemes),
        "naive (ns)": theirs * scale,
        "ours (ns)": ours * scale,
        "times faster": theirs / ours,
    }


def naive(weights: torch.Tensor, scheme: Scheme) -> float:
    """Relative error as a short script would find it."""
    w = weights.float()
    return float((w - quantized(weights, scheme)).norm() / w.norm())


def values_of(weights: torch.Tensor) -> Values:
    """The counts of the values, as the table of histograms has them."""
    return Values.of(SimpleNamespace(**value_histogram(weights).row()))


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The least CPU time of several runs, after one that compiles."""
    if repeats > 1:
        work()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return float(np.min(taken))


if __name__ == "__main__":
    cyclopts.run(main)
