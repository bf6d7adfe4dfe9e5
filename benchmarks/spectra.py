"""What spectra cost: (a) float32 SVDs and dense d x d kernels, (b) WeightWatcher, (c) this package.

    python benchmarks/spectra.py --d-model 2048 --d-ff 11008 --threads 4

One table for each question: all matrices of a Llama layer, attention kernels per head, power-law fits. Every route runs
in a process of its own, which gives its peak memory; the same matrices (random, with a decaying spectrum, in bfloat16)
go to all. Errors are against float64 SVDs, where --exact asks for them (slow). On a busy machine take one thread (set
OMP_NUM_THREADS=1 as well) and compare the CPU times: threads of a BLAS that wait for each other can take a hundred
times longer there. --device cuda times this package's GPU route as well.
"""

import contextlib
import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import pandas as pd
import threadpoolctl
import torch

HEAD_DIM = 128
app = cyclopts.App(help=__doc__)


@app.default
def main(
    d_model: int = 2048,
    d_ff: int = 11008,
    threads: int = 4,
    device: str = "cpu",
    exact: bool = False,
    weightwatcher: bool = True,
    dense_d_model: list[int] = [2048, 4096],  # noqa: B006
) -> None:
    """Print the three tables."""
    shapes = [*[(d_model, d_model)] * 4, *[(d_ff, d_model)] * 2, (d_model, d_ff)]
    print(f"\nall matrices of a layer, d_model {d_model}, d_ff {d_ff}, {threads} threads")
    largest = (max(rows * columns for rows, columns in shapes) + d_model**2) * 8 / 2**20
    print(f"largest matrix in float64 and its Gram matrix: {largest:.0f} MB")
    routes = {"ours": ours, "float32 SVDs": notebook}
    routes |= {"WeightWatcher (with its fits)": weightwatcher_layer} if weightwatcher else {}
    routes |= {"ours, cuda": ours_on_cuda} if device == "cuda" else {}
    routes |= {"float64 SVDs": exact_spectra} if exact else {}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.npy" for index in range(len(shapes))]
        for index, (file, shape) in enumerate(zip(files, shapes, strict=True)):
            np.save(file, weights(shape, index).view(torch.int16).numpy())
        show({name: in_process(route, files, threads) for name, route in routes.items()}, exact)
    for width in dense_d_model:
        print(f"\nattention kernel of one head, d_model {width}, head_dim {HEAD_DIM}")
        show({name: in_process(route, width, threads) for name, route in KERNELS.items()}, False)
    print("\npower-law fits, one thread")
    show_fits([(1024, 1024), (2048, 2048), (2048, 11008)])


def weights(shape: tuple[int, int], seed: int) -> Any:
    """A matrix in bfloat16: factors of a quarter of the rank with a power-law spectrum, and noise."""
    generator = torch.Generator().manual_seed(seed)
    rank = min(shape) // 4
    left = torch.randn(shape[0], rank, generator=generator) * torch.arange(1, rank + 1) ** -0.6
    right = torch.randn(rank, shape[1], generator=generator)
    return (0.01 * (left @ right) + 0.02 * torch.randn(shape, generator=generator)).bfloat16()


def read(file: Path) -> torch.Tensor:
    """A matrix of bfloat16 from its file."""
    return torch.from_numpy(np.load(file)).view(torch.bfloat16)


def ours(files: list[Path], threads: int, device: str = "cpu") -> list[np.ndarray]:
    """The singular-value table of this package."""
    from weight_atlas.spectra.table import singular_value_table

    shapes = [np.load(file, mmap_mode="r").shape for file in files]
    rows = pd.DataFrame(
        [
            {
                **{"id": str(index), "tensor": "", "role": "W", "stack": "", "layer": 0, "expert": pd.NA},
                **{"rows": height, "cols": width, "dtype": "BF16"},
            }
            for index, (height, width) in enumerate(shapes)
        ]
    )
    table = singular_value_table(rows, lambda row: read(files[int(row.id)]), threads=threads, device=device)
    return list(table["sigma"])


def ours_on_cuda(files: list[Path], threads: int) -> list[np.ndarray]:
    """The same on a GPU."""
    return ours(files, threads, "cuda")


def notebook(files: list[Path], threads: int) -> list[np.ndarray]:
    """float32 singular values as stored, eight workers (one if there is one thread)."""
    matrices = [read(file).float() for file in files]
    with ThreadPoolExecutor(8 if threads > 1 else 1) as pool:
        return [sigma.numpy() for sigma in pool.map(torch.linalg.svdvals, matrices)]


def exact_spectra(files: list[Path], threads: int) -> list[np.ndarray]:
    """float64 singular values of the tall orientation."""
    matrices = [read(file) for file in files]
    tall = [matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T for matrix in matrices]
    return [torch.linalg.svdvals(matrix.double().contiguous()).numpy() for matrix in tall]


def weightwatcher_layer(files: list[Path], threads: int) -> list[np.ndarray]:
    """WeightWatcher's analysis of linear layers with these weights."""
    matrices = [read(file) for file in files]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import weightwatcher

        layers = [
            torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, dtype=matrix.dtype) for matrix in matrices
        ]
        for layer, matrix in zip(layers, matrices, strict=True):
            layer.weight = torch.nn.Parameter(matrix.float(), requires_grad=False)
        weightwatcher.WeightWatcher(model=torch.nn.Sequential(*layers)).analyze()
    return []


def kernel_from_factors(width: int, threads: int) -> list[np.ndarray]:
    """One head by this package, ten times over."""
    from weight_atlas.spectra.attention_kernels import kernel

    left, right = head(width)
    for _ in range(9):
        kernel(left, right)
    return [kernel(left, right).singular_values]


def dense_kernel(width: int, threads: int) -> list[np.ndarray]:
    """One head by way of the d x d matrix in float32."""
    left, right = (torch.from_numpy(factor).float() for factor in head(width))
    matrix = left.T @ right
    torch.linalg.eigvals(matrix)
    return [torch.linalg.svdvals(matrix).numpy()]


KERNELS = {"ours, ten heads": kernel_from_factors, "dense float32": dense_kernel}


def head(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors of one head."""
    random = np.random.default_rng(0)
    return random.standard_normal((HEAD_DIM, width)) / 50, random.standard_normal((HEAD_DIM, width)) / 50


def in_process(route: Callable, what: Any, threads: int) -> dict[str, Any]:
    """Run a route in a fresh process: wall and CPU seconds with its imports, peak memory, and what it found."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(route, what, threads, queue))
    process.start()
    measured = queue.get()
    process.join()
    return measured


def _measure(route: Callable, what: Any, threads: int, queue: Any) -> None:
    torch.set_num_threads(threads)
    with threadpoolctl.threadpool_limits(threads):
        wall, cpu = time.perf_counter(), time.process_time()
        found = route(what, threads)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    queue.put({"wall": wall, "cpu": cpu, "peak_mb": peak_megabytes(), "found": found})


def peak_megabytes() -> float:
    """Peak resident memory of this program; what getrusage says begins with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def show(results: dict[str, dict[str, Any]], exact: bool) -> None:
    """Print times, ratios to the first route (per head where it ran ten), memory, and errors where they are known."""
    ours_first = next(iter(results.values()))
    scale = 10 if any("ten" in name for name in results) else 1
    rows = []
    for name, result in results.items():
        ratio = {
            key: result[key] / ours_first[key] * (scale if result is not ours_first else 1) for key in ("wall", "cpu")
        }
        row = {"route": name, "wall s": result["wall"], "CPU s": result["cpu"]}
        row |= {"x wall": ratio["wall"], "x CPU": ratio["cpu"], "peak MB": result["peak_mb"]}
        if exact and result["found"]:
            row |= errors(result["found"], results["float64 SVDs"]["found"])
        rows.append(row)
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.4g}"))


def errors(found: list[np.ndarray], truth: list[np.ndarray]) -> dict[str, float]:
    """Worst relative error of the largest and smallest singular value and of the effective rank."""
    from weight_atlas.spectra.ranks import rank_measures

    pairs = list(zip(found, truth, strict=True))
    ranks = [[rank_measures(np.asarray(sigma, dtype=float))["erank"] for sigma in pair] for pair in pairs]
    return {
        "error of largest": max(abs(one[0] / other[0] - 1) for one, other in pairs),
        "of smallest": max(abs(one[-1] / other[-1] - 1) for one, other in pairs),
        "of effective rank": max(abs(one / other - 1) for one, other in ranks),
    }


def show_fits(shapes: list[tuple[int, int]]) -> None:
    """Time the search for the threshold against WeightWatcher's, on the same eigenvalues."""
    from weight_atlas.spectra.power_law import fit_power_law
    from weight_atlas.spectra.singular_values import spectrum

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from weightwatcher.WW_powerlaw import WWFit
    rows = []
    for shape in shapes:
        values = spectrum(weights(shape, 0)).sigma[::-1] ** 2
        values = values[values > 1e-5]
        theirs, their_time = timed(lambda values=values: WWFit(values))
        ours, our_time = timed(lambda values=values: fit_power_law(values))
        same = (ours.alpha, ours.distance, ours.xmin) == (theirs.alpha, theirs.D, theirs.xmin)
        row = {"shape": "x".join(map(str, shape)), "ours ms": 1e3 * our_time, "WeightWatcher ms": 1e3 * their_time}
        rows.append({**row, "times": their_time / our_time, "alpha": ours.alpha, "D": ours.distance, "identical": same})
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.4g}"))


def timed(function: Callable, repeats: int = 3) -> tuple[Any, float]:
    """Result and least CPU time of some calls."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        best = min(best, time.process_time() - start)
    return result, best


if __name__ == "__main__":
    app()
