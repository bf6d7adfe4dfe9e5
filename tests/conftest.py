"""One thread a process, since pytest already runs one process a core; the many small tensors gain nothing from more."""

import os
import resource
import signal
import subprocess
import sys
from collections import Counter

import pytest

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
THREADS = os.environ["OMP_NUM_THREADS"]

# A job in a shell's background ignores interrupts, and so would the processes that the tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


# CPU seconds by the file of the tests that took them.
SPENT: Counter[str] = Counter()
OUTSIDE = "outside of tests"


def _cpu_seconds(*, children: bool = True) -> float:
    """Of this process, the processes it started, and the forks of tests/workflow/forked.py."""
    counted = [resource.RUSAGE_SELF, *([resource.RUSAGE_CHILDREN] if children else [])]
    forked = sys.modules.get("forked")
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, counted))
    return seconds + (forked.cpu_seconds() if forked else 0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    before = _cpu_seconds()
    result = yield
    SPENT[item.path.name] += _cpu_seconds() - before
    return result


def pytest_sessionfinish(session) -> None:
    # The workers, children of the process that hands out tests, count for themselves.
    shared = getattr(session.config.option, "numprocesses", None)
    SPENT[OUTSIDE] += _cpu_seconds(children=not shared) - (0 if shared else SPENT.total())
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["cpu_seconds"] = dict(SPENT)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    SPENT.update(getattr(node, "workeroutput", {}).get("cpu_seconds", {}))


def pytest_terminal_summary(terminalreporter) -> None:
    dearest = ", ".join(f"{name} {seconds:.0f}" for name, seconds in SPENT.most_common(8) if seconds >= 1)
    terminalreporter.write_line(f"{SPENT.total():.0f} CPU seconds in all processes; most in: {dearest}")


def pytest_collection_modifyitems(items) -> None:
    """Whole runs first: a worker that begins them last works on alone when the others have nothing left to do."""
    items.sort(key=lambda item: "workflow" not in item.path.parts[-2:])
