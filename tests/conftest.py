"""One thread a process, since pytest already runs one process a core; the many small tensors gain nothing from more."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def pytest_collection_modifyitems(items) -> None:
    """Whole runs first: a worker that begins them last works on alone when the others have nothing left to do."""
    items.sort(key=lambda item: "workflow" not in item.path.parts[-2:])
