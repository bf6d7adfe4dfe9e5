"""What the process list shows while a test is at work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Seen:
    """shown: argument lists that hold the text; processes: those whose arguments name the folder of the test."""

    shown: set[str] = field(default_factory=set)
    processes: set[int] = field(default_factory=set)


@contextmanager
def argument_lists_with(text: str, folder: Path) -> Iterator[Seen]:
    """Look at the argument lists of all processes again and again, as anybody on the machine can."""
    seen, ended = Seen(), threading.Event()

    def look() -> None:
        while not ended.wait(0.03):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # gone
                    arguments = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if text in arguments:
                        seen.shown.add(arguments)
                    if str(folder) in arguments:
                        seen.processes.add(int(path.parent.name))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()


def files_with(text: str, *folders: Path) -> list[Path]:
    """The files below folders that hold a text."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if text.encode() in path.read_bytes()]
