"""Kernel locks on files that all users share, safe from cleaners of the folder and from what others put there.

A lock is dropped when its holder dies, however it dies. Whoever gets one looks whether the path still names the file
that it locked: files may go, and come again, at any time.
"""

import fcntl
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from weight_atlas.errors import AtlasError

SHARED, ALONE = fcntl.LOCK_SH, fcntl.LOCK_EX
# The same for all users, and local to the machine, as TMPDIR often is not.
PLACE = Path("/tmp")
_KEPT_EVERY = 20  # seconds
_FOLDERS = 100  # names to try for the folder


def shared_folder(name: str, place: Path = PLACE) -> Path:
    """The folder of all users' locks, made if it is missing.

    The first of NAME, NAME-1, NAME-2, ... counts that is no link and a folder which everybody may write to and nobody
    may clear, whoever made it: everybody finds the same one, and what somebody else put there stops nobody.
    """
    for number in range(_FOLDERS):
        path = place / (f"{name}-{number}" if number else name)
        mask = os.umask(0)
        try:
            path.mkdir(0o1777)
        except FileExistsError:
            pass
        finally:
            os.umask(mask)
        if stat.filemode(path.lstat().st_mode) == "drwxrwxrwt":
            return path
    raise AtlasError(
        f"no folder {name} for all users",
        where=place,
        remedy="have those removed that only their owners may write to: processes must tell each other what they take",
    )


class Lock:
    """A lock that is held on the file of a path, SHARED or ALONE."""

    def __init__(self, path: Path, descriptor: int, kind: int):
        self.path, self._descriptors, self._kind = path, [descriptor], kind

    def keep(self) -> None:
        """Let no cleaner think that the file is old; where one removed it, lock the one that takes its place."""
        os.utime(self._descriptors[-1])
        if _is_file_of(self.path, self._descriptors[-1]):
            return
        if (lock := try_lock(self.path, self._kind)) is None:
            print(f"warning: {self.path} was removed, and another process has locked what took its place", flush=True)
        else:
            self._descriptors += lock._descriptors

    def release(self) -> None:
        """Drop the lock, and the file with it if nobody else can have a lock on it."""
        if self._kind == ALONE and _is_file_of(self.path, self._descriptors[-1]):
            with suppress(OSError):  # another user's
                self.path.unlink()
        for descriptor in self._descriptors:
            os.close(descriptor)


def try_lock(path: Path, kind: int) -> Lock | None:
    """Lock the file of a path, which is made if it is missing; None while others hold it."""
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        if _is_file_of(path, descriptor):
            return Lock(path, descriptor, kind)
        os.close(descriptor)  # it was removed between the two


@contextmanager
def kept(locks: Sequence[Lock]) -> Iterator[None]:
    """Look after the files of locks meanwhile."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(_KEPT_EVERY):
            for lock in locks:
                with suppress(OSError, AtlasError):
                    lock.keep()

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def holders() -> dict[int | None, int]:
    """Processes that hold a lock, by the number of its file, as far as the kernel shows them to this one."""
    with suppress(OSError):
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return {int(row[5].rsplit(":", 1)[1]): int(row[4]) for row in rows if row[1] == "FLOCK"}
    return {}


def _open(path: Path) -> int:
    """Open a plain file, made if it is missing, and nothing else that somebody may have put in its place."""
    plain = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    while True:
        try:
            # Without O_CREAT: kernels refuse that for files of others in a sticky folder.
            descriptor = os.open(path, plain)
        except FileNotFoundError:
            try:
                descriptor = os.open(path, plain | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                continue
            os.fchmod(descriptor, 0o666)  # whatever the umask
        except OSError as error:
            raise _not_ours(path, error.strerror) from error
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
            return descriptor
        os.close(descriptor)
        raise _not_ours(path, "not a plain file of its own")


def _not_ours(path: Path, reason: str | None) -> AtlasError:
    return AtlasError(
        f"a lock that all users share cannot be opened: {reason}",
        where=path,
        remedy="somebody else put it there: have it removed",
    )


def _is_file_of(path: Path, descriptor: int) -> bool:
    """Whether a path names the file of a descriptor."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))
