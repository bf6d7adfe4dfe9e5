"""Plans of a copied workflow, made in this process and without running a job: what a run would do after a change.

One process parses the workflow again for every plan, which takes a third of a second once the libraries are loaded; a
process of its own takes four. All jobs are recorded as finished, with empty outputs, as Snakemake records them.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parsed_workflow import another_workflow
from snakemake.settings.enums import RerunTrigger
from snakemake.settings.types import ConfigSettings, DAGSettings, ResourceSettings

from weight_atlas.workflow import location, provenance

TRIGGERS = frozenset(RerunTrigger.parse_choices_set(["mtime", "params", "input", "software-env"]))  # of the profile
Job = tuple[str, str]  # rule, wildcards


class Plans:
    """A copy of the workflow in a folder, with a configuration.

    jobs: of the whole plan, with what each is given by name; below: the jobs that read what a job writes.
    """

    def __init__(self, folder: Path, config: Path):
        self.folder, self.config = folder, config
        self.jobs: dict[Job, dict] = {}
        self.below: dict[Job, set[Job]] = {}

    def finish(self) -> None:
        """Leave empty outputs and the records of a finished run."""
        with self._planned() as store:
            dag, now = store.dag, time.time()
            for job in dag.jobs:
                for path in map(Path, job.output):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch() if path.suffix else path.mkdir()
                    os.utime(path, (now, now))  # none is newer than another
            asyncio.run(_record(store))
            self.jobs = {_name(job): _given(job) for job in dag.jobs if job.rule.script}
            for job in dag.jobs:
                for before in dag.dependencies[job]:
                    self.below.setdefault(_name(before), set()).add(_name(job))

    def now(self) -> tuple[set[Job], dict[Job, dict]]:
        """The jobs with a script that a run would run now, and what each job is given now."""
        with self._planned() as store:
            jobs = [job for job in store.dag.jobs if job.rule.script]
            return {_name(job) for job in jobs if store.dag.needrun(job)}, {_name(job): _given(job) for job in jobs}

    def downstream(self, first: set[Job]) -> set[Job]:
        """Jobs and all that directly or indirectly read what they write."""
        found, queue = set(first), list(first)
        while queue:
            new = self.below.get(queue.pop(), set()) - found
            found |= new
            queue += new
        return found & self.jobs.keys()

    @contextmanager
    def _planned(self) -> Iterator:
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            code = _code_of(self.folder / "src/weight_atlas")
            with code, another_workflow() as api:
                workflow = api.workflow(
                    resource_settings=ResourceSettings(cores=1),
                    config_settings=ConfigSettings(configfiles=[self.config]),
                    snakefile=self.folder / "Snakefile",
                    workdir=self.folder,
                )
                workflow.dag(DAGSettings(rerun_triggers=TRIGGERS)).execute_workflow(executor="dryrun")
                yield workflow._workflow_store
        finally:
            os.chdir(before)
            sys.path[:] = list(dict.fromkeys(sys.path))


@contextmanager
def _code_of(library: Path) -> Iterator[None]:
    """Let the digests of code be made anew, but for files that are as they were when they were read last."""
    before = location.LIBRARY, provenance._imports_and_digest
    location.LIBRARY, provenance._imports_and_digest = library, _once_a_state
    _forget()
    try:
        yield
    finally:
        location.LIBRARY, provenance._imports_and_digest = before
        _forget()


def _forget() -> None:
    for cached in (provenance._direct_dependencies, provenance._module_files):
        cached.cache_clear()


_READ_ANEW = provenance._imports_and_digest.__wrapped__
_STATES: dict[tuple[Path, int, int], tuple] = {}


def _once_a_state(path: Path) -> tuple:
    status = path.stat()
    state = path, status.st_size, status.st_mtime_ns
    if state not in _STATES:
        _STATES[state] = _READ_ANEW(path)
    return _STATES[state]


async def _record(store) -> None:
    for job in store.dag.jobs:
        await store.persistence.finished(job)


def _name(job) -> Job:
    return job.rule.name, " ".join(map(str, job.wildcards))


def _given(job) -> dict:
    """Inputs, and parameters by name."""
    return {"input": sorted(map(str, job.input)), **{name: repr(value) for name, value in job.params.items()}}
