"""Steps that end at once, since they would write what they wrote before.

Within one run Snakemake runs everything downstream of a step that runs, even if that step writes the same bytes as
before. Here a job whose inputs, settings and code are those that its outputs were made from ends before a process is
started: the outputs, which Snakemake removes before a job, are put back with a new time. For this they are kept
aside by hard links until the run is over.
"""

import csv
import functools
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from weight_atlas.digest_records import OWN_FOLDER, DigestRecords, digest_of, digests
from weight_atlas.errors import AtlasError
from weight_atlas.temporary_names import remove_left_over

RENEWED = "renewed: inputs, settings and code are those that this was made from"
_LINE = f"{RENEWED}\n"
_SKEW = 60  # seconds by which the clocks of two machines may differ
_NAMED = 20  # files of a message
_BENCHMARK = 6  # the place of the benchmark's record in what Snakemake hands to a rule's function after the log


class Renewals:
    """The jobs of a workflow, whose outputs lie in one folder of results."""

    def __init__(self, results: Path):
        self._records = DigestRecords(results)
        self._kept = Path(results) / OWN_FOLDER / "kept"
        self._logs: list[Path] = []
        self._outputs: list[Path] = []

    def keep(self, jobs: Iterable[Any], forced: Callable[[Any], bool]) -> None:
        """Keep the outputs and logs of Snakemake's jobs that are due, before the first one runs.

        forced: of a job, whether the user asked for it, so that it has to run. What an interrupted run kept stays; what
        it left half written goes.
        """
        jobs = list(jobs)
        outputs = [Path(path) for job in jobs for path in job.output]
        remove_left_over([*outputs, *filter(None, map(self._records.file_of, outputs))])
        for job in jobs:
            for path in map(Path, [*job.output, *job.log]):
                if forced(job):
                    _remove(self._aside(path))
                elif path.exists():
                    self._keep(path)
            self._logs += map(Path, job.log)
        self._outputs += outputs

    def end(self) -> int:
        """Let go of what was kept; return how many jobs were renewed, on whichever machine."""
        for path in self._outputs:
            with suppress(OSError):  # not made, or without a record
                self._records.untouched(path)  # Snakemake gave it a new time when its job had ended
        renewed = [path for path in self._logs if not self._aside(path).exists() and is_renewed(path)]
        with suppress(OSError):  # no reason to fail for what has come to its end
            _remove(self._kept)
        return len(renewed)

    def recorded(self, run: Callable[..., None], benchmark: Callable[[Any], str]) -> Callable[..., None]:
        """A rule's function that checks the inputs, runs unless the outputs can be renewed, and records these.

        benchmark: of wildcards, the file that says what the step took, which Snakemake writes anew.
        """

        @functools.wraps(run)
        def run_recorded(inputs, outputs, params, wildcards, threads, resources, log, *more):
            paths = list(map(Path, outputs))
            with _said_in(log, str(params.step)):
                values = {name: dict(each.items()) for name, each in {"params": params, "of": wildcards}.items()}
                values |= {"inputs": dict(inputs.items()), "outputs": dict(outputs.items())}
                _refuse_times_to_come(inputs)
                made_from = digest_of([repr(values), self._records.checked(map(Path, inputs))])
                if self._renew(paths, made_from):
                    self._renew_logs(map(Path, log))
                    if more[_BENCHMARK] is not None:
                        _take_as_before(more[_BENCHMARK], Path(benchmark(wildcards)))
                    return
                for path in [*paths, *map(Path, log)]:
                    self._records.forget(path)
                    _remove(self._aside(path))
            run(inputs, outputs, params, wildcards, threads, resources, log, *more)
            with _said_in(log, str(params.step)):
                for path in paths:
                    self._records.write(path, made_from)

        return run_recorded

    def _renew(self, paths: list[Path], made_from: str) -> bool:
        """Put back outputs made from the same inputs, settings and code, if all are kept as they were written."""
        with suppress(AtlasError):  # of a damaged record
            for path in paths:
                aside, record = self._aside(path), self._records.of(path)
                if record is None or record.made_from != made_from:
                    return False
                if not aside.exists() or digests(aside) != record.files:
                    return False
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._aside(path).replace(path)
                os.utime(path)
                self._records.untouched(path)
            return True
        return False

    def _renew_logs(self, paths: Iterable[Path]) -> None:
        """Put back what the step said when it ran, with a line that says that it did not run again."""
        for path in paths:
            aside = self._aside(path)
            said = aside.read_bytes() if aside.exists() else b""
            path.write_bytes(said.removesuffix(_LINE.encode()) + _LINE.encode())
            _remove(aside)

    def _keep(self, path: Path) -> None:
        aside = self._aside(path)
        _remove(aside)
        try:
            aside.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, aside, copy_function=os.link)
            else:
                os.link(path, aside)
        except OSError:  # no hard links here, a full disk, or a log on another file system: that job runs
            _remove(aside)

    def _aside(self, path: Path) -> Path:
        return self._kept / digest_of(str(path))


def is_renewed(log: Path) -> bool:
    """Whether the step that a log is of was renewed last, and not run."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - len(_LINE)))
            return file.read() == _LINE.encode()
    except OSError:
        return False


def _refuse_times_to_come(inputs: Iterable[str]) -> None:
    """Raise AtlasError for inputs that are newer than what is made of them now, which Snakemake refuses at the end."""
    soon = time.time() + _SKEW
    if late := [path for path in inputs if Path(path).exists() and Path(path).stat().st_mtime > soon]:
        raise AtlasError(
            "the time of a file lies in the future: what is made of it would always look out of date",
            where=", ".join(late[:_NAMED]),
            remedy=f"set the clock right, or give it the time of now: touch {shlex.join(late[:_NAMED])}",
        )


def _take_as_before(benchmark: Any, path: Path) -> None:
    """Let Snakemake write again what the step took when it ran, from the file of that time."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = {name: _number(text) for name, text in next(csv.DictReader(file, delimiter="\t")).items()}
    except (OSError, StopIteration):
        found = {}
    benchmark.running_time = found.get("s") or 0.0
    benchmark.process_gone = True  # nothing was measured, rather than in vain
    benchmark.data_collected = found.get("cpu_time") is not None
    benchmark.cpu_usage = (found.get("mean_load") or 0.0) * benchmark.running_time
    for name in ("max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "cpu_time"):
        setattr(benchmark, name, found.get(name))


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:  # NA or -: too short to be measured
        return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _said_in(log: Iterable[str], step: str) -> Iterator[None]:
    """End a job with a message in its log, as its script does, where files are not as they should be."""
    try:
        yield
    except AtlasError as error:
        for path in map(Path, log):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"error: {error}\n")
        raise subprocess.CalledProcessError(1, step) from error
