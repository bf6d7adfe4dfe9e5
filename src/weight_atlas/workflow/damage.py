"""Results that are not what their steps wrote: found by reading all of them, and removed to be made again."""

import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from weight_atlas.digest_records import LOST, NOT_CONTENT, OWN_FOLDER, DigestRecords, Record, digests
from weight_atlas.errors import AtlasError

OF_THE_RUN = Path("atlas/steps.js")  # below the results: no step writes it, but the workflow when a run ends


@dataclass
class Damage:
    """What is wrong in a folder of results, of whole, the number of outputs of steps that are right.

    damaged: what is wrong with an output, by its path. missing: outputs that are gone. foreign: files and links that no
    step recorded, among them those that a run is writing.
    """

    whole: int = 0
    damaged: dict[Path, str] = field(default_factory=dict)
    missing: list[Path] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.damaged or self.missing or self.foreign)


def damage(results: Path, threads: int, output_of: Callable[[Path], Path | None]) -> Damage:
    """Compare every output with its record, in blocks; AtlasError where there are no records.

    threads: so many files are read at a time. output_of: which output, known to have been recorded, a file without a
    record is, or lies in; None for files that no step made.
    """
    records = DigestRecords(results).all()
    found, known = Damage(), {results / OF_THE_RUN}
    with ThreadPoolExecutor(threads) as pool:
        for path, inside, wrong, foreign in pool.map(_compared, records):
            known |= inside
            found.foreign += foreign
            if not os.path.lexists(path):
                found.missing.append(path)
            elif wrong:
                found.damaged[path] = wrong
            else:
                found.whole += 1
    for path in _files(results):
        if path not in known:
            if (output := output_of(path)) is None:
                found.foreign.append(path)
            else:
                found.damaged[output] = LOST
    if not (found.whole or found.damaged or found.missing):
        raise AtlasError(
            "no records of results here", where=results, remedy="name the folder that the workflow ran in: --directory"
        )
    found.foreign = sorted(set(found.foreign))
    return found


def _compared(recorded: tuple[Path, Record | AtlasError]) -> tuple[Path, set[Path], str, list[Path]]:
    """An output, the files that are accounted for, what is wrong with it, and files in it that are not its own."""
    path, record = recorded
    if isinstance(record, AtlasError):
        return path, {path, *_files(path)}, record.what, []
    own = {path / name if name else path for name in record.files}
    try:
        now = digests(path)
    except FileNotFoundError:
        return path, {path, *own}, "a link to nothing", []
    except OSError as error:
        return path, {path, *own}, f"it cannot be read: {error.strerror}", []
    gone = sorted(record.files.keys() - now.keys())
    others = sorted(name for name, digest in record.files.items() if now.get(name, digest) != digest)
    more = [path / name for name in sorted(now.keys() - record.files.keys())]
    if "" in gone or path in more:
        return path, {path, *own, *more}, "a folder where a file was, or the other way round", []
    wrong = [f"{name} is gone" for name in gone] + [f"{name or 'it'} has other bytes" for name in others]
    return path, {path, *own, *more}, ", ".join(wrong), more


def _files(folder: Path) -> Iterable[Path]:
    """All files and links below a folder of results but the workflow's own."""
    for place, folders, names in os.walk(folder):
        below = Path(place)
        links = [name for name in folders if (below / name).is_symlink()]
        folders[:] = [name for name in folders if name != OWN_FOLDER or below != folder]
        yield from (below / name for name in [*names, *links] if name != NOT_CONTENT)


def remove_damaged(results: Path, found: Damage) -> None:
    """Remove the damaged outputs and the records of those and of the missing ones; the next run makes them.

    What is foreign stays.
    """
    records = DigestRecords(results)
    for path in [*found.damaged, *found.missing]:
        _remove(path)
        records.forget(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
