"""What a file system refuses, as one message: a full disk, a read-only place, a missing permission."""

import errno
from pathlib import Path

from weight_atlas.errors import AtlasError

_AGAIN = "then run the same command again: it goes on where it stopped"
_EXPLAINED = {
    errno.ENOSPC: ("no space left on the device", f"free some room there, {_AGAIN}"),
    errno.EDQUOT: ("no space left in your quota", f"free some room or have the quota raised, {_AGAIN}"),
    errno.EROFS: ("the file system is read-only", f"take a place that can be written, {_AGAIN}"),
    errno.EACCES: ("permission denied", f"give this user the right to the file and its folder, {_AGAIN}"),
    errno.EPERM: ("operation not permitted", f"give this user the right to the file and its folder, {_AGAIN}"),
    errno.ENAMETOOLONG: ("the name of the file is too long", "take shorter names or a folder higher up"),
    errno.EIO: ("the device does not read or write", f"look at the disk or the network share, {_AGAIN}"),
}


def explained(error: OSError, path: Path | None = None) -> AtlasError | None:
    """The message for an error of the file system, None for one that is of another kind.

    path: the file in question, where the error does not name one.
    """
    if error.errno not in _EXPLAINED:
        return None
    what, remedy = _EXPLAINED[error.errno]
    return AtlasError(what, where=path or error.filename, remedy=remedy)
