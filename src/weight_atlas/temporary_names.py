"""The names under which files are written before they are whole, and what is left of them after a crash."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\.(.+)\.\d+\.partial(\.[^.]+)?")


def temporary_of(path: Path) -> Path:
    """Where this process writes a file that is to appear at path whole; its suffix is kept."""
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


def remove_left_over(paths: Iterable[Path]) -> None:
    """Remove what processes that were killed left of files that nobody writes now."""
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, wanted in names.items():
        with suppress(FileNotFoundError, NotADirectoryError):
            for found in list(folder.iterdir()):
                match = _TEMPORARY.fullmatch(found.name)
                if match and match[1] + (match[2] or "") in wanted:
                    found.unlink(missing_ok=True)
