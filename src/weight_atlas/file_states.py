"""What shows that a user's files may be others than before. Light: the workflow asks for every dry run."""

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

# Whole files are compared up to so many bytes of all files together, of larger ones so many blocks of so many bytes.
_WHOLE = 4 << 20
_BLOCKS, _BLOCK = 8, 512
# Files that are opened; a folder may hold a hundred thousand.
_OPENED = 1000


def states_of(paths: Iterable[str | Path]) -> dict[str, str]:
    """Size, modification time, whereabouts and a digest of bytes of each file, by its path.

    As a parameter of a rule it shows what a comparison of times alone does not: a file replaced by an older one or by
    one of the same size and time, and a link that points elsewhere. The digest is of all bytes while the files
    together have no more than 4 MiB, of a larger file of 4 KiB spread over it (between two states of training nearly
    all bytes differ), and of no bytes after the first 1000 files.
    """
    states, room = {}, _WHOLE
    for number, path in enumerate(map(Path, paths)):
        try:
            status = path.stat()
            # Relative to where the link stands: a working directory that is moved as a whole stays the same.
            target = os.path.relpath(path.resolve(), path.parent.absolute())
            state = f"{status.st_size} {status.st_mtime_ns} {target}"
            if stat.S_ISREG(status.st_mode) and number < _OPENED:
                whole = status.st_size <= room
                room -= status.st_size if whole else 0
                state += f" {_digest(path, status.st_size, whole)}"
        except OSError as error:  # the step that reads it says what to do
            state = f"unreadable: {error.strerror}"
        states[path.as_posix()] = state
    return states


def _digest(path: Path, size: int, whole: bool) -> str:
    with path.open("rb", buffering=0) as file:
        if whole:
            content = file.read()
        else:
            offsets = (max(0, size - _BLOCK) * number // (_BLOCKS - 1) for number in range(_BLOCKS))
            content = b"".join(os.pread(file.fileno(), _BLOCK, offset) for offset in offsets)
    return hashlib.sha256(content).hexdigest()[:16]
