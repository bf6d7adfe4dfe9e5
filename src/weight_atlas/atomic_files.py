"""Files that appear under their names only when they are complete: written beside their places, synced and renamed.

Apart from artifacts.py, which writes tables with it, since importing pandas is most of what a short command would cost.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from weight_atlas.digest_records import forget
from weight_atlas.errors import explained
from weight_atlas.temporary_names import temporary_of


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside path; on leaving without an exception it becomes path.

    The suffix is kept, since plotting libraries choose the format by it. A full disk and the like are AtlasErrors.
    """
    path = Path(path)
    temporary = temporary_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(_default_mode())
        forget(path)
        temporary.replace(path)
    except OSError as error:
        if (message := explained(error, path)) is not None:
            raise message from error
        raise
    finally:
        with suppress(OSError):  # of a folder that could not be made
            temporary.unlink(missing_ok=True)


def _default_mode() -> int:
    # The process's umask cannot be read without setting it; steps are single-threaded where they write.
    mask = os.umask(0)
    os.umask(mask)
    return stat.S_IMODE(0o666 & ~mask)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 with LF line ends."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
