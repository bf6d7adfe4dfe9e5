"""Whatever happens to a run, at whatever moment, the same command goes on and ends with the same bytes.

WEIGHT_ATLAS_CRASHES says how many times a run is disturbed, WEIGHT_ATLAS_SEED by which random numbers.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import psutil
import pytest
from project import SNAKEMAKE, Project, digests

pytestmark = pytest.mark.slow

CRASHES = int(os.environ.get("WEIGHT_ATLAS_CRASHES", "8"))
SEED = int(os.environ.get("WEIGHT_ATLAS_SEED", "0"))
# Steps in a row and side by side, and one that writes a folder.
FEW = ("--configfile", "few.yaml", "--", "effective_ranks", "architecture_summaries", "results/atlas/assets")
ROOM = "160m"  # of the file system; the workflow takes a fourth of it


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of its own, that can be full; a folder where this user may mount none."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def project(disk) -> Project:
    made = Project.small(disk / "project")
    shutil.copy2(Path(__file__).with_name("few.yaml"), made.folder)
    return made


class Run:
    """A run in a process group of its own, as a terminal starts one."""

    def __init__(self, project: Project):
        self.project, self.before = project, results(project)
        command = [SNAKEMAKE, "--cores", "2", *FEW]
        self.said = project.folder / "said.txt"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                command, cwd=project.folder, env=project.environment, stdout=said, stderr=said, start_new_session=True
            )

    def wait_for(self, outputs: int, seconds: float) -> bool:
        """Wait until it has written so many outputs, and some seconds more; return whether it is still at work."""
        deadline = time.monotonic() + 300
        while len(results(self.project) - self.before) < outputs and time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        time.sleep(seconds)
        return self.process.poll() is None

    def jobs(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def ended(self, jobs: list[psutil.Process]) -> int:
        """Its exit code when it and its jobs are gone."""
        code = self.process.wait(timeout=300)
        _, alive = psutil.wait_procs(jobs, timeout=300)  # one that still imports its libraries notices when it is done
        assert not alive, "jobs outlive their workflow"
        return code


def results(project: Project) -> set[Path]:
    return set((project.folder / "results").glob("[!.]*/*"))


def kill_workflow(run: Run, _: random.Random) -> None:
    run.process.kill()


def kill_group(run: Run, _: random.Random) -> None:
    os.killpg(run.process.pid, signal.SIGKILL)


def kill_job(run: Run, _: random.Random) -> None:
    """The largest one, as the kernel does where memory is short."""
    with suppress(ValueError, psutil.NoSuchProcess):
        max(run.jobs(), key=lambda job: job.memory_info().rss).kill()


def interrupt(run: Run, _: random.Random) -> None:
    """Ctrl-C, which a terminal sends to all."""
    os.killpg(run.process.pid, signal.SIGINT)


def terminate(run: Run, _: random.Random) -> None:
    run.process.terminate()


def fill_disk(run: Run, chosen: random.Random) -> None:
    """Leave little room; it is free again when the run has ended."""
    free = shutil.disk_usage(run.project.folder).free
    if free < 1 << 30:  # not the disk of this machine
        with suppress(OSError), (run.project.folder / "filler").open("wb", buffering=0) as file:
            file.write(bytes(max(0, free - chosen.choice([0, 4096, 20_000, 100_000]))))


EVENTS: list[Callable[[Run, random.Random], None]] = [
    kill_workflow, kill_job, kill_group, interrupt, fill_disk, kill_job, terminate, kill_workflow,
]  # fmt: skip


def test_whatever_happens_the_run_goes_on_and_ends_with_the_same_bytes(project):
    """Disturbed again and again, each time at another moment; what is finished is compared, and begun anew."""
    project.start_snakemake(*FEW)
    undisturbed = digests(project.folder / "results")
    chosen, happened, finished = random.Random(SEED), list[str](), 0
    events = cycle(EVENTS)
    reset(project)
    while len(happened) < CRASHES:
        run = Run(project)
        # From its very beginning to its end: in the start-up, between jobs and within them.
        if run.wait_for(chosen.choice([0, 1, 1, 2, 3, 4]), chosen.choice([0.0, chosen.uniform(0, 3)])):
            event, jobs = next(events), run.jobs()
            event(run, chosen)
            happened.append(event.__name__)
            code = run.ended(jobs)
            (project.folder / "filler").unlink(missing_ok=True)
            print(len(happened), event.__name__, code, flush=True)
        elif run.ended([]) == 0:
            assert digests(project.folder / "results") == undisturbed, happened
            finished += 1
            reset(project)
        else:
            raise AssertionError(f"after {happened}:\n{run.said.read_text()[-3000:]}")
    project.start_snakemake(*FEW)
    assert digests(project.folder / "results") == undisturbed, happened
    assert "Nothing to be done" in project.start_snakemake(*FEW).stderr
    print(f"{len(happened)} times disturbed, {finished + 1} runs compared: {Counter(happened)}")


def reset(project: Project) -> None:
    shutil.rmtree(project.folder / "results")
    shutil.rmtree(project.folder / "logs")


def test_two_runs_in_one_directory(project):
    first = Run(project)
    assert first.wait_for(1, 0)
    second = project.start_snakemake(*FEW, check=False)
    assert second.returncode == 1
    assert "another run is at work in this directory" in second.stderr
    assert "Traceback" not in second.stderr
    assert project.start_snakemake("--dry-run", *FEW).returncode == 0
    first.process.kill()
    first.process.wait()
