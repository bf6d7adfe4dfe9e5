"""One workflow at a time in one working directory, by a kernel lock that dies with its holder."""

import errno
import fcntl
import os
import sys
from pathlib import Path

from weight_atlas.errors import AtlasError, explained

# Lustre mounted without flock, NFS without its lock daemon, some FUSE file systems.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def hold(path: Path) -> int:
    """Lock a file for the rest of this process's life and return its descriptor.

    AtlasError when another live process holds it. Nothing has to be cleaned up after a crash: the kernel drops the
    lock when its holder dies. On a file system without locks the run goes on unlocked, with a warning.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not inheritable: a job that outlives the workflow must not keep the directory locked.
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise explained(error, path) or error from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AtlasError(
            "another run is at work in this directory",
            where=path.resolve().parent.parent,
            remedy="wait for it, stop it, or use another directory (--directory)",
        ) from error
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        print(
            f"warning: the file system of {path.resolve().parent.parent} has no locks ({error.strerror}): "
            "make sure that no other run is at work there",
            file=sys.stderr,
            flush=True,
        )
    return descriptor
