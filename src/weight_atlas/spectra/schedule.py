"""Distribution of matrices over parts by their cost, and over threads within a bound on memory.

Every matrix is computed with one BLAS thread, so that its result depends neither on the number of threads nor on the
number of parts; several matrices are computed in parallel instead. That is also faster: on a busy machine one
decomposition spread over four threads takes many times longer than four in parallel.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

# Least cost of a part in multiply-adds: about a second of work, below which starting a process costs more.
GRAIN = 2e10


def cost(rows: int, columns: int) -> float:
    """Multiply-adds of a spectrum: the Gram matrix of the smaller side, and its eigenvalues.

    The reduction to tridiagonal form runs at memory speed, which makes its 2/3 n^3 count about fourfold.
    """
    small, large = min(rows, columns), max(rows, columns)
    return float(small) ** 2 * (large / 2 + 4 * small * 2 / 3)


def parts(costs: Sequence[float], count: int) -> list[list[int]]:
    """Distribute items over parts: the most expensive first, each to the part with the least cost (ties: the first).

    No more parts are used than there are multiples of GRAIN; the others are empty. Items keep their order in a part.
    """
    used = max(1, min(count, int(np.ceil(sum(costs) / GRAIN))))
    loads = [0.0] * used
    shares: list[list[int]] = [[] for _ in range(count)]
    for item in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        least = loads.index(min(loads))
        loads[least] += costs[item]
        shares[least].append(item)
    return [sorted(share) for share in shares]


def working_bytes(rows: int, columns: int, stored: int) -> int:
    """Memory that one spectrum takes: the matrix as stored, and the larger of what its two halves take in turn.

    These are 2.5 float64 squares of its smaller side, and a shuffled copy in float32, with a quarter more for the
    blocks that it is made of and the vectors of Lanczos's method.
    """
    small = min(rows, columns)
    return stored + max(20 * small * small + 8 * 512 * small, 5 * rows * columns)


def allowed_bytes(shapes: Sequence[tuple[int, int]], beyond: int) -> int:
    """Memory for the largest matrix in float64 with its Gram matrix, and `beyond` bytes more."""
    return max((8 * (rows * columns + min(rows, columns) ** 2) for rows, columns in shapes), default=0) + beyond


def run_within(tasks: Sequence[Callable[[], Any]], needs: Sequence[int], allowed: int, workers: int) -> list[Any]:
    """Run tasks in threads, those with the largest needs first, within a bound on memory; results in the tasks' order.

    A task that needs more than is allowed runs alone.
    """
    free = threading.Condition()
    held = {"bytes": 0, "tasks": 0}
    results: list[Any] = [None] * len(tasks)

    def fits(need: int) -> bool:
        return held["tasks"] < workers and (not held["tasks"] or held["bytes"] + need <= allowed)

    def run(index: int) -> None:
        try:
            results[index] = tasks[index]()
        finally:
            with free:
                held["bytes"] -= needs[index]
                held["tasks"] -= 1
                free.notify()

    with ThreadPoolExecutor(max(1, workers)) as pool:
        futures: list[Future[None]] = []
        for index in sorted(range(len(tasks)), key=lambda item: (-needs[item], item)):
            with free:
                free.wait_for(partial(fits, needs[index]))
                held["bytes"] += needs[index]
                held["tasks"] += 1
            if any(future.done() and future.exception() for future in futures):
                break
            futures.append(pool.submit(run, index))
        for future in futures:
            future.result()
    return results


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit BLAS and torch to one thread per calling thread."""
    import threadpoolctl
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
