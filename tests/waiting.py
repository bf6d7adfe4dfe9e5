"""Waiting for what other processes do, however busy the machine is."""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import psutil

Seen = TypeVar("Seen")


def await_true(condition: Callable[[], Seen], seconds: float = 600) -> Seen:
    """What a condition gives as soon as that is true; it fails where that takes longer than a test can."""
    end = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)
    return seen


def running() -> str:
    """The argument lists of all processes."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def is_gone(pid: int) -> bool:
    """Whether a process has ended; it may still be listed, where nobody has asked for its exit code."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True
