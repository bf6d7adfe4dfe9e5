"""One workflow at a time in one working directory and in one folder of results.

By kernel locks, which die with their holder. A file system without them gets a file that names its holder instead.
"""

import atexit
import errno
import fcntl
import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from weight_atlas.digest_records import OWN_FOLDER
from weight_atlas.errors import AtlasError, explained

# Lustre mounted without flock, NFS without its lock daemon, some FUSE file systems.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_OWNER = "directory"


class _Place(NamedTuple):
    """What a lock is of, the message where another run holds it, and how that is avoided."""

    folder: Path
    held: str
    remedy: str


def hold_all(directory: Path, results: Path) -> list[int]:
    """Lock a working directory and a folder of results for the rest of this process's life; return descriptors.

    AtlasError when another live process holds one of them. The results may lie elsewhere; then they say whose they are.
    """
    own = _Place(Path(directory), "another run is at work in this directory", "use another directory (--directory)")
    shared = _Place(Path(results), "another run writes to these results", "use other results (pathvars: results)")
    descriptors = [
        hold(own.folder / ".snakemake/weight-atlas.lock", own),
        hold(shared.folder / OWN_FOLDER / "lock", shared),
    ]
    owner = shared.folder / OWN_FOLDER / _OWNER
    try:
        owner.write_bytes(os.fsencode(own.folder.resolve()))
    except OSError as error:
        raise explained(error, owner) or error from error
    return descriptors


def refuse_results_of_another(directory: Path, results: Path) -> None:
    """An AtlasError where results outside of a working directory are those of another one.

    Only the other working directory has the record of what they were made with, and so knows which are stale.
    """
    directory, results = directory.resolve(), results.resolve()
    try:
        owner = Path(os.fsdecode((results / OWN_FOLDER / _OWNER).read_bytes()))
    except (OSError, ValueError):
        return
    if owner != directory and directory not in results.parents and (owner / ".snakemake").is_dir():
        raise AtlasError(
            f"these results were made in another directory, {owner}",
            where=results,
            remedy=f"work there (--directory {owner}), or use other results (pathvars: results)",
        )


def hold(path: Path, place: _Place) -> int:
    """Lock a file for the rest of this process's life and return its descriptor.

    AtlasError when another live process holds it. Nothing has to be cleaned up after a crash: the kernel drops the
    lock when its holder dies. On a file system without locks, a file beside it names the holder, with a warning.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not inheritable: a job that outlives the workflow must not keep the directory locked.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise explained(error, path) or error from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise _refused(place) from error
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        name = path.with_name(f"{path.name}-holder.json")
        print(
            f"warning: the file system of {place.folder.resolve()} has no locks ({error.strerror}): "
            f"{name} says that this run is at work there",
            file=sys.stderr,
            flush=True,
        )
        _hold_by_name(name, place)
    return descriptor


def _refused(place: _Place, more: str = "") -> AtlasError:
    remedy = f"wait for it, stop it, or {place.remedy}"
    return AtlasError(place.held, where=place.folder.resolve(), remedy=f"{remedy}{more}")


def _hold_by_name(path: Path, place: _Place) -> None:
    """Name this process in a file that only one process can create, and remove it when the process ends.

    The file of a process of this machine that is gone is taken over; of another machine that cannot be known.
    """
    mine = _this_process()
    for _ in range(40):
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(mine, file)
        except FileExistsError:
            holder = _read(path)
            if holder is None:  # gone meanwhile, or being written
                time.sleep(0.05)
            elif holder["host"] != mine["host"]:
                gone = f"; if that run is gone (process {holder['pid']} of {holder['host']}): rm {path}"
                raise _refused(place, gone) from None
            elif _is_alive(holder):
                raise _refused(place) from None
            else:
                _take_away(path, holder)
        else:
            atexit.register(_release, path, mine)
            return
    raise AtlasError("a file that says who is at work cannot be read", where=path, remedy=f"rm {path}")


def _take_away(path: Path, holder: dict[str, Any]) -> None:
    """Remove the file of a holder that is gone; one that another process has made meanwhile is put back."""
    taken = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        path.rename(taken)
        if _read(taken) != holder:
            with suppress(OSError):
                os.link(taken, path)
        taken.unlink()


def _release(path: Path, mine: dict[str, Any]) -> None:
    if os.getpid() == mine["pid"] and _read(path) == mine:
        path.unlink(missing_ok=True)


def _this_process() -> dict[str, Any]:
    import psutil

    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return {name: holder[name] for name in ("host", "pid", "started")}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine is the one of a file, and not a later one of the same number."""
    import psutil

    try:
        return abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) < 1
    except psutil.NoSuchProcess:
        return False
