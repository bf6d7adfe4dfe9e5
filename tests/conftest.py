"""One thread a process, since pytest already runs one process a core; the many small tensors gain nothing from more."""

import os
import resource
import subprocess
import sys

import pytest

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
THREADS = os.environ["OMP_NUM_THREADS"]


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    """A step that runs in this process takes the threads of its job, and leaves them to all tests after it."""
    yield
    if os.environ["OMP_NUM_THREADS"] != THREADS:
        from weight_atlas.workflow.step import _limit_threads

        _limit_threads(int(THREADS))


@pytest.fixture
def growth_of():
    """growth_of(code, *arguments): bytes by which the peak memory of a process grew, from the ru_maxrss that it prints.

    It is started by a shell, which is small: on Linux a process begins with the peak of the one whose place it takes,
    and one that pytest starts would hide its own growth below that of pytest.
    """

    def growth(code: str, *arguments: object) -> int:
        command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", code, *map(str, arguments)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return int(printed) * (1024 if sys.platform == "linux" else 1)  # elsewhere ru_maxrss counts bytes

    return growth


# CPU seconds of workers of pytest, or of this process.
SPENT: list[float] = []


def pytest_sessionfinish(session) -> None:
    """Count this process, the processes it started, and the forks of tests/workflow/forked.py."""
    # The workers, children of the process that hands out tests, count for themselves.
    shared = getattr(session.config.option, "numprocesses", None)
    counted = [resource.RUSAGE_SELF] if shared else [resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN]
    forked = sys.modules.get("forked")
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, counted))
    seconds += forked.cpu_seconds() if forked else 0
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["cpu_seconds"] = seconds
    else:
        SPENT.append(seconds)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    SPENT.append(getattr(node, "workeroutput", {}).get("cpu_seconds", 0))


def pytest_terminal_summary(terminalreporter) -> None:
    terminalreporter.write_line(f"{sum(SPENT):.0f} CPU seconds in all processes")


def pytest_collection_modifyitems(items) -> None:
    """Whole runs first: a worker that begins them last works on alone when the others have nothing left to do."""
    items.sort(key=lambda item: "workflow" not in item.path.parts[-2:])
