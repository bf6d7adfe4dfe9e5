"""Steps whose inputs, settings and code are as they were end without running, and no others do."""

import errno
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.benchmark import BenchmarkRecord, write_benchmark_records

from weight_atlas.digest_records import LOST, DigestRecords, check
from weight_atlas.errors import AtlasError
from weight_atlas.workflow.renewal import RENEWED, Renewals, is_renewed


class Named(list):
    """Stands in for Snakemake's Namedlist."""

    def __init__(self, **names):
        super().__init__(names.values())
        self.__dict__.update(names)

    def items(self):
        return self.__dict__.items()


class Step:
    """A rule with one job, run as Snakemake runs it: what it writes is removed before it."""

    def __init__(self, folder: Path):
        self.folder, self.runs, self.failing = folder, 0, False
        self.input = Named(text=str(folder / "results/text/in.txt"))
        self.output = Named(table=str(folder / "results/step/out.txt"), data=str(folder / "results/step/data"))
        self.params = Named(step="step", code=["abc"], options={"phases": 3})
        self.log = [str(folder / "logs/step.log")]
        self.wildcards = Named(model="demo")
        self.benchmark = SimpleNamespace()
        for path in (self.input.text, self.output.table, self.log[0]):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(self.input.text).write_text("a text")
        DigestRecords(folder / "results").write(Path(self.input.text), "its own step")

    def run(self, *given):
        self.runs += 1
        Path(self.log[0]).write_text("at work\n")
        if self.failing:
            raise subprocess.CalledProcessError(1, "step")
        Path(self.output.table).write_text(Path(self.input.text).read_text() + str(self.params.options))
        for name in ("a.js", "b/c.js"):
            (Path(self.output.data) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(self.output.data) / name).write_text(name)

    def __call__(self, *, forced=False, keep=True) -> bool:
        """Run the job with all that a run of the workflow does around it; return whether it was run."""
        before, renewals = self.runs, Renewals(self.folder / "results")
        if keep:
            renewals.keep([self], lambda job: forced)
        subprocess.run(["rm", "-rf", *self.output, *self.log], check=True)
        given = self.input, self.output, self.params, self.wildcards, 1, {}, self.log
        try:
            renewals.recorded(self.run, lambda of: f"{self.folder}/{of.model}.tsv")(
                *given, *["step"] * 6, self.benchmark
            )
        finally:
            self.renewed = renewals.end()
        return self.runs > before


@pytest.fixture
def step(tmp_path):
    made = Step(tmp_path)
    assert made()
    return made


def test_the_same_again_is_renewed(step):
    content, old = Path(step.output.table).read_text(), 1e9
    for path in (step.output.table, step.output.data):
        os.utime(path, (old, old))
    for _ in range(2):
        assert not step() and step.renewed == 1
    assert Path(step.output.table).read_text() == content
    assert (Path(step.output.data) / "b/c.js").read_text() == "b/c.js"
    assert all(Path(path).stat().st_mtime > old for path in step.output)
    assert Path(step.log[0]).read_text() == f"at work\n{RENEWED}\n" and is_renewed(Path(step.log[0]))
    assert step.benchmark.running_time == 0
    assert check(Path(step.output.table)) and check(Path(step.output.data))
    assert not (step.folder / "results/.weight-atlas/kept").exists()


def test_what_a_step_took_when_it_ran_stays(step):
    """By Snakemake's own writer of benchmarks."""
    text = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    for took in (
        "2.5000\t0:00:02\t7.25\t-\t3.00\t4.00\t0.00\t1.50\t95.00\t2.25\n",
        "0.1000\t0:00:00" + "\tNA" * 8 + "\n",
    ):
        (step.folder / "demo.tsv").write_text(text + took)
        step.benchmark = BenchmarkRecord()
        assert not step()
        write_benchmark_records([step.benchmark], str(step.folder / "again.tsv"), extended_fmt=False)
        numbers = [(step.folder / name).read_text().split() for name in ("again.tsv", "demo.tsv")]
        assert [_plain(word) for word in numbers[0]] == [_plain(word) for word in numbers[1]]


def _plain(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word


@pytest.mark.parametrize(
    "change",
    [
        lambda step: step.params.options.update(phases=4),
        lambda step: step.params.code.append("numpy 2.5"),
        lambda step: step.wildcards.__dict__.update(model="other"),
        lambda step: step.input.__dict__.update(table=step.input.text),  # under another name
        lambda step: Path(step.output.table).unlink(),
        lambda step: Path(step.output.table).write_text("by hand"),
        lambda step: (Path(step.output.data) / "a.js").write_text("damaged"),
        lambda step: DigestRecords(step.folder / "results").forget(Path(step.output.data)),
        lambda step: (step.folder / "results/.weight-atlas/records/step/out.txt.json").write_text("{"),
        lambda step: (step.folder / "results/.weight-atlas/records/step/out.txt.json").unlink(),
    ],
)
def test_what_is_another_runs(step, change):
    change(step)
    assert step() and step.renewed == 0
    assert not is_renewed(Path(step.log[0]))
    assert not step()


def test_another_input_runs_and_a_damaged_one_is_said_in_the_log(step):
    text, records = Path(step.input.text), DigestRecords(step.folder / "results")
    text.write_text("another text")
    with pytest.raises(subprocess.CalledProcessError):
        step()
    assert step.runs == 1
    said = Path(step.log[0]).read_text()
    assert said.startswith("error: not what its step wrote") and f"rm -r {text}" in said
    records.write(text, "its own step")
    assert step()
    assert Path(step.output.table).read_text().startswith("another text")


def test_an_input_of_tomorrow_is_refused_before_the_step_runs(step):
    text = step.input.text
    os.utime(text, (time.time() + 86_400,) * 2)
    with pytest.raises(subprocess.CalledProcessError):
        step(forced=True)
    said = Path(step.log[0]).read_text()
    assert step.runs == 1 and said.startswith("error: the time of a file lies in the future")
    assert said.rstrip().endswith(f"touch {text}")
    os.utime(text)
    assert step(forced=True)


def test_a_disk_that_is_full_when_the_record_is_written_is_said_in_the_log(step, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("weight_atlas.digest_records.os.fsync", full)
    with pytest.raises(subprocess.CalledProcessError):
        step(forced=True)
    assert "\nerror: no space left on the device" in Path(step.log[0]).read_text()
    monkeypatch.undo()
    assert step() and not step()


def test_what_the_user_forces_or_what_nothing_kept_runs(step):
    assert step(forced=True)
    assert step(keep=False)
    assert not step()


def test_a_failed_step_leaves_no_record(step):
    step.failing = True
    step.params.options["phases"] = 4
    with pytest.raises(subprocess.CalledProcessError):
        step()
    assert DigestRecords(step.folder / "results").of(Path(step.output.table)) is None
    step.failing = False
    assert step()


def test_without_hard_links_steps_run(step, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert step()


def test_what_an_interrupted_run_kept_serves_the_next(step):
    renewals = Renewals(step.folder / "results")
    renewals.keep([step], lambda job: False)
    subprocess.run(["rm", "-rf", *step.output, *step.log], check=True)
    assert not step()


def test_what_killed_writers_left_is_removed(step):
    table = Path(step.output.table)
    record = step.folder / "results/.weight-atlas/records/step"
    left = [table.with_name(".out.12.partial.txt"), record / ".out.txt.12.partial.json"]
    others = [table.with_name(".other.12.partial.txt"), table.with_name(".out.partial.txt"), table]
    for path in [*left, *others[:2]]:
        path.touch()
    Renewals(step.folder / "results").keep([step], lambda job: False)
    assert not any(path.exists() for path in left) and all(path.exists() for path in others)


def test_a_job_that_did_not_run_is_not_counted(step):
    assert not step()
    renewals = Renewals(step.folder / "results")
    renewals.keep([step], lambda job: False)
    assert renewals.end() == 0 and check(Path(step.output.table))


def test_a_record_that_cannot_be_read_is_named(step):
    (step.folder / "results/.weight-atlas/records/text/in.txt.json").write_text("{}")
    with pytest.raises(AtlasError, match="record of a file's digest is damaged"):
        check(Path(step.input.text))
    with pytest.raises(subprocess.CalledProcessError):
        step()
    assert "in.txt.json" in Path(step.log[0]).read_text()


def test_an_input_that_lost_its_record_is_named(step):
    (step.folder / "results/.weight-atlas/records/text/in.txt.json").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        step()
    said = Path(step.log[0]).read_text()
    assert step.runs == 1 and said.startswith(f"error: {LOST}\n") and f"rm -rf {step.input.text} " in said
    DigestRecords(step.folder / "results").write(Path(step.input.text), "its own step")
    assert step()
