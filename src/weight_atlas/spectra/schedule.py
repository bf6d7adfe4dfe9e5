"""Which matrices a part takes, and how many of them at once: by cost, within a bound on memory.

Every matrix is computed with one BLAS thread, so its bytes depend neither on the number of threads nor on the number
of parts; several matrices run side by side instead. That is also the faster way: on a busy machine one decomposition
spread over four threads takes many times longer than four beside each other.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

# Below this cost, in multiply-adds, a part is not worth the start of another process: about a second of work.
GRAIN = 2e10


def cost(rows: int, columns: int) -> float:
    """Multiply-adds of a spectrum: the Gram matrix of the smaller side, and its eigenvalues.

    The reduction to tridiagonal form runs at memory speed, which makes its 2/3 n^3 count about fourfold.
    """
    small, large = min(rows, columns), max(rows, columns)
    return float(small) ** 2 * (large / 2 + 4 * small * 2 / 3)


def parts(costs: Sequence[float], count: int) -> list[list[int]]:
    """Share items out over count parts, the dearest first to the part with least to do (ties: the first part).

    Only as many parts are used as there is work for; the others are empty. Items keep their order within a part.
    """
    used = max(1, min(count, int(np.ceil(sum(costs) / GRAIN))))
    loads, shares = [0.0] * used, [[] for _ in range(count)]
    for item in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        least = loads.index(min(loads))
        loads[least] += costs[item]
        shares[least].append(item)
    return [sorted(share) for share in shares]


def working_bytes(rows: int, columns: int, stored: int) -> int:
    """Memory that one spectrum takes: the matrix as stored and 2.5 float64 squares of its smaller side."""
    small = min(rows, columns)
    return stored + 20 * small * small + 8 * 512 * small


def allowed_bytes(shapes: Sequence[tuple[int, int]], beyond: int) -> int:
    """The largest matrix in float64 with its Gram matrix, and some bytes beyond."""
    return max((8 * (rows * columns + min(rows, columns) ** 2) for rows, columns in shapes), default=0) + beyond


def run_within(tasks: Sequence[Callable[[], Any]], needs: Sequence[int], allowed: int, workers: int) -> list[Any]:
    """Run tasks in threads, the neediest first, never more at once than memory allows; results in their order.

    A task that needs more than all that is allowed runs alone.
    """
    free = threading.Condition()
    held = {"bytes": 0, "tasks": 0}
    results: list[Any] = [None] * len(tasks)

    def run(index: int) -> None:
        try:
            results[index] = tasks[index]()
        finally:
            with free:
                held["bytes"] -= needs[index]
                held["tasks"] -= 1
                free.notify()

    with ThreadPoolExecutor(max(1, workers)) as pool:
        futures = []
        for index in sorted(range(len(tasks)), key=lambda item: (-needs[item], item)):
            with free:
                free.wait_for(
                    lambda need=needs[index]: (
                        held["tasks"] < workers and (not held["tasks"] or held["bytes"] + need <= allowed)
                    )
                )
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
    """Hold BLAS and torch to one thread per caller."""
    import threadpoolctl
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
