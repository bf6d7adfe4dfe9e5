"""Dear artifacts that working folders and users share, by what they are made from.

A key is a digest of all that a step's outputs follow from: the contents of its inputs, its settings and code, the exact
versions of libraries that numbers depend on, and whether it runs on a GPU. Of a checkpoint's manifest it takes the
digests of the weights and how they are read, and not where they lie. An entry is a folder that is renamed into its
place when it is complete, so that there is all of it or nothing, whoever else writes it and whoever is killed; what is
taken from it is held to its digests, and one that is damaged is made again. Entries are for
all who may read the cache's folder, and more are added by all who may write to it, whatever their umask.
"""

import functools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from stat import S_IMODE
from typing import Any

from weight_atlas.digest_records import digest_of, digests
from weight_atlas.errors import AtlasError
from weight_atlas.workflow.needs import NEEDS
from weight_atlas.workflow.versions import LIBRARIES, versions

# What reads weights, runs a model or counts tokens; its inputs are artifacts and no files of users.
DEAR = {step for step, need in NEEDS.items() if need.per_gigabyte} - {"fetch_checkpoint"} | {"token_counts"}
_NOT_WEIGHTS = ("source", "revision")  # of a manifest: where the weights lie
_RECORD = "record.json"
_ABANDONED = 24 * 3600  # seconds after which nobody is still writing an entry
_BENCHMARK = 6  # the place of the benchmark's record in what Snakemake hands to a rule's function after the log


class SharedCache:
    """A folder of entries by their keys."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def through(self, run: Callable[..., None]) -> Callable[..., None]:
        """A rule's function that takes a dear step's outputs from the cache, or makes them and leaves them there."""

        @functools.wraps(run)
        def run_cached(inputs, outputs, params, wildcards, threads, resources, log, *more):
            if params.step not in DEAR:
                return run(inputs, outputs, params, wildcards, threads, resources, log, *more)
            start = time.monotonic()
            files = {f"output {name}": Path(path) for name, path in outputs.items()} | {"log": Path(log[0])}
            key = key_of(
                {"params": dict(params.items()), "of": dict(wildcards.items()), "outputs": sorted(files)},
                {name: each if isinstance(each, str) else list(each) for name, each in inputs.items()},
                on_gpu=bool(resources.get("gpu", 0)),
            )
            if not self.take(key, files):
                run(inputs, outputs, params, wildcards, threads, resources, log, *more)
                self.put(key, files)
            elif (benchmark := more[_BENCHMARK]) is not None:
                benchmark.running_time, benchmark.process_gone = time.monotonic() - start, True
            return None

        return run_cached

    def take(self, key: str, files: Mapping[str, Path]) -> bool:
        """Copy an entry's files to their places, if it is there whole; with "log", say in it where they came from."""
        entry = self._entry(key)
        try:
            recorded = json.loads((entry / _RECORD).read_bytes())
            whole = recorded == {name: digests(entry / name) for name in files}
        except PermissionError:
            print(f"warning: not readable in the shared cache: {entry}", flush=True)
            return False
        except (OSError, ValueError):
            whole = False
        if not whole:
            self._set_aside(entry)
            return False
        try:
            for name, path in files.items():
                _copy(entry / name, path)
        except FileNotFoundError:  # set aside meanwhile
            return False
        with files["log"].open("a", encoding="utf-8") as log:
            log.write(f"taken from the shared cache: {entry}\n")
        return True

    def put(self, key: str, files: Mapping[str, Path]) -> None:
        """Make an entry of files, unless somebody has made it meanwhile; no step fails for what fails here."""
        entry = self._entry(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            rights = S_IMODE(self.folder.stat().st_mode)
            entry.parent.mkdir(exist_ok=True)
            with suppress(PermissionError):  # another user's, who did this
                entry.parent.chmod(rights)
            for old in self.folder.glob("*/.*"):
                if time.time() - old.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(old, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=entry.parent, prefix=".", ignore_cleanup_errors=True) as made:
                folder = Path(made) / "entry"
                folder.mkdir()
                for name, path in files.items():
                    _copy(path, folder / name)
                record = json.dumps({name: digests(folder / name) for name in files}, sort_keys=True, indent=1)
                (folder / _RECORD).write_text(record, encoding="utf-8")
                for path in (folder, *folder.rglob("*")):
                    path.chmod(rights & ~0o022 if path.is_dir() else rights & 0o444 | 0o200)
                _sync(folder)
                folder.rename(entry)
        except (OSError, AtlasError) as error:
            if not entry.is_dir():  # of another writer
                print(f"warning: not left in the shared cache {self.folder}: {error}", flush=True)

    def _entry(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def _set_aside(self, entry: Path) -> None:
        """Move a damaged entry aside; whoever is reading it has its files open."""
        if entry.is_dir():
            print(f"warning: damaged in the shared cache, and made again: {entry}", flush=True)
            with (
                suppress(OSError),  # another user's
                tempfile.TemporaryDirectory(dir=entry.parent, prefix=".", ignore_cleanup_errors=True) as aside,
            ):
                entry.rename(Path(aside) / "damaged")


def key_of(values: Any, inputs: Mapping[str, str | list[str]], *, on_gpu: bool) -> str:
    """The key of what a step makes of values and of the files of its inputs, by the inputs' names."""
    contents = {
        name: [(Path(path).name, _content(path)) for path in ([paths] if isinstance(paths, str) else paths)]
        for name, paths in inputs.items()
    }
    exact = {name: version(name.replace("_", "-")) for name in versions(LIBRARIES)}
    return digest_of([repr(values), contents, exact, "gpu" if on_gpu else "cpu"])


def _content(path: str) -> Any:
    """What identifies the content of an input."""
    if Path(path).suffix == ".json":
        try:
            manifest = json.loads(Path(path).read_bytes())
        except ValueError:  # the step that reads it says what is wrong with it
            manifest = None
        known = isinstance(manifest, dict) and {"source", "files", "prefix"} <= manifest.keys()
        if known and all(file.get("sha256") for file in manifest["files"]):
            return {name: value for name, value in manifest.items() if name not in _NOT_WEIGHTS}
    return digests(Path(path))


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder: it appears whole, with the rights that the user's umask leaves, and never as a link."""
    from weight_atlas.artifacts import atomic

    if not source.is_dir():
        with atomic(target) as temporary:
            shutil.copyfile(source, temporary)
        return
    shutil.rmtree(target, ignore_errors=True)
    for file in sorted(source.rglob("*")):
        if file.is_file():
            _copy(file, target / file.relative_to(source))
    target.mkdir(parents=True, exist_ok=True)


def _sync(folder: Path) -> None:
    """Write the names in a folder to the disk, where their contents are already."""
    for each in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
