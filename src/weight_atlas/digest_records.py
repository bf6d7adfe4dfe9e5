"""Digests of the files that steps wrote, kept beside the results and checked by what reads them.

An output has one record, below `.weight-atlas/records` in the results folder, written when its step has ended: the
digest of the file, or of each file of a folder, and a digest of all that it was made from. The record of a file has the
file's time as its own, which tells at a glance that the file was not touched since. An empty file of the same name
below `.weight-atlas/recorded` says that there is a record, so that a lost one is noticed.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from weight_atlas.errors import AtlasError, explained
from weight_atlas.temporary_names import temporary_of

OWN_FOLDER = ".weight-atlas"  # below the results
_RECORDS, _RECORDED = "records", "recorded"  # below that folder
_DAMAGED = "the record of a file's digest is damaged"
LOST = "the record of a file's digest is lost"
NOT_CONTENT = ".snakemake_timestamp"  # Snakemake's own, in folders that are outputs
# Larger files of users, checkpoints and corpora, are digested by the steps that read them.
LARGE = 64 << 20  # bytes


class Record(NamedTuple):
    """files: digest by the name below the output, "" for the output itself; made_from: of inputs, settings, code."""

    files: dict[str, str]
    made_from: str


class DigestRecords:
    """The records of a folder of results."""

    def __init__(self, results: Path):
        self._results = Path(results)

    def of(self, path: Path) -> Record | None:
        """The record of an output, None where there never was one; AtlasError for one that is damaged or lost."""
        return None if (file := self.file_of(path)) is None else self._read(file, path)

    def all(self) -> Iterator[tuple[Path, Record | AtlasError]]:
        """Every output that was recorded, also if it is gone or a link, with its record or what is wrong with that."""
        for path, file in self._recorded():
            try:
                if (record := self._read(file, path)) is not None:
                    yield path, record
            except AtlasError as error:
                yield path, error

    def _recorded(self) -> Iterator[tuple[Path, Path]]:
        """Every output that was recorded, and the file of its record, which may be lost."""
        own = self._results / OWN_FOLDER
        places: set[str] = set()
        for folder in (str(own / _RECORDS), str(own / _RECORDED)):
            for place, _, names in os.walk(folder):  # a third of what Path.rglob takes: every plan comes here
                below = place[len(folder) + 1 :]
                places.update(os.path.join(below, name) for name in names if name.endswith(".json"))  # noqa: PTH118
        for name in sorted(places):
            yield self._results / name.removesuffix(".json"), own / _RECORDS / name

    def _read(self, file: Path, path: Path) -> Record | None:
        try:
            content = json.loads(file.read_bytes())
            record = Record(content["files"], content["made_from"])
            if content["digest"] != digest_of(record):
                raise ValueError
        except (FileNotFoundError, NotADirectoryError):
            if self._sign_of(file).exists():
                raise _unusable(LOST, of={path: file}) from None
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise _unusable(_DAMAGED, of={path: file}) from error
        return record

    def write(self, path: Path, made_from: str) -> None:
        """Record an output as it is now, unless it lies elsewhere than the results; AtlasError on a full disk."""
        if (file := self.file_of(path)) is None:
            return
        record = Record(digests(path), made_from)
        temporary = temporary_of(file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as written:
                json.dump({**record._asdict(), "digest": digest_of(record)}, written, indent=1, sort_keys=True)
                written.flush()
                os.fsync(written.fileno())
            temporary.replace(file)
            sign = self._sign_of(file)
            sign.parent.mkdir(parents=True, exist_ok=True)
            sign.touch()
        except OSError as error:
            raise explained(error, file) or error from error
        finally:
            with suppress(OSError):  # of a folder that could not be made
                temporary.unlink(missing_ok=True)
        self.untouched(path)

    def untouched(self, path: Path) -> None:
        """Take an output's time for the one that it has as its step wrote it."""
        if (file := self.file_of(path)) is not None:
            written = path.stat().st_mtime_ns
            os.utime(file, ns=(written, written))

    def changed(self) -> list[str]:
        """Files that are other than their steps wrote them, of those with another time than then or with a lost record.

        Where nothing was touched this reads no file, however large the results are. Outputs that are folders, and what
        is missing, are left out.
        """
        found = []
        for path, file in self._recorded():
            try:
                status = path.stat()
                if not S_ISREG(status.st_mode) or status.st_mtime_ns == _time_of(file):
                    continue
                self.checked([path])
                self.untouched(path)
            except AtlasError:
                found.append(str(path))
            except OSError:  # gone meanwhile, or not ours to look at
                continue
        return found

    def forget(self, path: Path) -> None:
        """Remove the record of an output that is made anew."""
        if (file := self.file_of(path)) is not None:
            self._sign_of(file).unlink(missing_ok=True)  # first: whoever reads meanwhile finds no record lost
            file.unlink(missing_ok=True)

    def checked(self, paths: Iterable[Path]) -> dict[str, str]:
        """What the content of files and folders is known by, by their names.

        AtlasError that names those which are not what their steps wrote, or whose records are damaged or lost; one that
        never had a record is taken as it is.
        """
        found, damaged, unusable = {}, [], {}
        for path in map(Path, paths):
            try:
                record = self.of(path)
            except AtlasError as error:
                unusable[path] = error.what
                continue
            if record is None and _is_large(path):
                status = path.stat()
                found[str(path)] = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
                continue
            now = digests(path)
            found[str(path)] = digest_of(now)
            if record is not None and now != record.files:
                damaged.append(str(path))
        if unusable:
            raise _unusable(*sorted(set(unusable.values())), of={path: self.file_of(path) for path in unusable})
        if damaged:
            raise AtlasError(
                "not what its step wrote: damaged, or changed by hand",
                where=", ".join(damaged),
                remedy=f"make it again: rm -r {shlex.join(damaged)}, then run the same command",
            )
        return found

    def file_of(self, path: Path) -> Path | None:
        """The file of an output's record; None for what lies elsewhere, or is a link to it."""
        place = Path(os.path.relpath(path, self._results))
        if not place.parts or place.parts[0] in (os.pardir, OWN_FOLDER) or Path(path).is_symlink():
            return None
        return self._results / OWN_FOLDER / _RECORDS / f"{place}.json"

    def _sign_of(self, file: Path) -> Path:
        """What says that there is a record, by the record's own file."""
        own = self._results / OWN_FOLDER
        return own / _RECORDED / file.relative_to(own / _RECORDS)


def _time_of(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _unusable(*what: str, of: dict[Path, Path | None]) -> AtlasError:
    """The error for outputs, by the files of their records."""
    return AtlasError(
        "; ".join(what),
        where=", ".join(map(str, of.values())),
        remedy=f"make both again: rm -rf {shlex.join(str(each) for both in of.items() for each in both)}, "
        "then run the same command",
    )


def check(path: Path) -> bool:
    """Hold a file to its record, an AtlasError where it is another; return whether the results around it have one."""
    recorded = [records for records in _around(path) if records.of(path) is not None]
    for records in recorded:
        records.checked([path])
    return bool(recorded)


def forget(path: Path) -> None:
    """Remove the record of a file that is about to be another, if it lies in results that have one of it."""
    for records in _around(path):
        records.forget(path)


def _around(path: Path) -> list[DigestRecords]:
    """The records of the folder of results that a path lies in, if any."""
    folders = Path(os.path.abspath(path)).parents  # noqa: PTH100 (links stay as they are named)
    return [DigestRecords(folder) for folder in folders if (folder / OWN_FOLDER).is_dir()]


def digests(path: Path) -> dict[str, str]:
    """The digest of a file under the name "", or of every file of a folder by its name below it."""
    path = Path(path)
    if not path.is_dir():
        return {"": _digest(path)}
    return {
        file.relative_to(path).as_posix(): _digest(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != NOT_CONTENT
    }


def digest_of(value: Any) -> str:
    """The digest of a plain value."""
    own = _new()
    own.update(json.dumps(value, sort_keys=True).encode())
    return own.hexdigest()


def _is_large(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > LARGE


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, _new).hexdigest()


def _new() -> Any:
    # The fastest of the standard library where a processor has no instructions for others.
    return hashlib.blake2b(digest_size=16)
