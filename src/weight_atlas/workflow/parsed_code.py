"""What files of code import and say, kept between runs of the workflow: parsing them is most of a dry run.

A file is known by the digest of its bytes, so that nothing kept can be stale; the path only says where it is kept, and
what is damaged there is made anew.
"""

import atexit
import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

Parsed: TypeAlias = tuple[tuple[str, ...], str]  # dotted names that are imported, digest of the rest
# The shape of a syntax tree depends on the version of Python, and what is made of it on these modules.
_MADE_BY = [Path(__file__).with_name(name).read_bytes() for name in ("parsed_code.py", "provenance.py")]
VERSION = hashlib.sha256(b"\0".join([sys.version.encode(), *_MADE_BY])).hexdigest()[:16]

_MOST = 5000  # files, of many versions; then only those of the last run stay


class ParsedCode:
    """Imports and digests of files by the SHA-256 of their bytes, at a place where they outlive this process."""

    def __init__(self) -> None:
        self._known: dict[str, Parsed] = {}
        self._before: dict[str, Parsed] = {}

    def keep(self, path: Path) -> None:
        """Read what is kept at a path, and write there at the end of this process what was used."""
        path = path.absolute()
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            kept = json.loads(path.read_bytes())
            if kept["version"] == VERSION:
                entries = {key: (tuple(map(str, names)), str(digest)) for key, (names, digest) in kept["files"].items()}
                self._before = entries
        atexit.register(self._write, path)

    def get(self, key: str) -> Parsed | None:
        """What is known of the file with these bytes."""
        if (found := self._known.get(key)) is None and (found := self._before.get(key)) is not None:
            self._known[key] = found
        return found

    def put(self, key: str, parsed: Parsed) -> None:
        self._known[key] = parsed

    def _write(self, path: Path) -> None:
        if self._known.keys() <= self._before.keys():
            return
        files = {**self._before, **self._known} if len(self._before) < _MOST else self._known
        content: dict[str, Any] = {"version": VERSION, "files": files}
        made = path.with_name(f".{path.name}.{os.getpid()}")
        with suppress(OSError):  # it only makes the next run faster
            made.write_text(json.dumps(content), encoding="utf-8")
            made.replace(path)


PARSED = ParsedCode()
