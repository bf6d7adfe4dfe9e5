"""One workflow at a time in one working directory, by a kernel lock that dies with its holder."""

import fcntl
import os
from pathlib import Path

from weight_atlas.errors import AtlasError


def hold(path: Path) -> int:
    """Lock a file for the rest of this process's life and return its descriptor.

    AtlasError when another live process holds it. Nothing has to be cleaned up after a crash: the kernel drops the
    lock when its holder dies.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not inheritable: a job that outlives the workflow must not keep the directory locked.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AtlasError(
            "another run is at work in this directory",
            where=path.resolve().parent.parent,
            remedy="wait for it, stop it, or use another directory (--directory)",
        ) from error
    return descriptor
