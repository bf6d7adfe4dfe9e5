"""The matrix of staleness: after every kind of change, alone, exactly the jobs that can see it would run.

Changes are derived from the code, the schema and the inputs (changes.py); plans are Snakemake's own, made in this
process and without running a job (planned.py). With WEIGHT_ATLAS_CHANGES=all the slow test tries every change that
there is, which takes a quarter of an hour, and else a share of every kind.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from changes import OWN_RECORD, Change, code_changes, input_changes, sample, setting_changes
from planned import Job, Plans
from project import Project

HARMLESS = {
    "comment in a module", "comment in a script", "comment in rules", "touched data", "touched script",
    "touched caption", "file that nothing reads",
}  # fmt: skip
# Of other kinds all.
QUICK = {
    "module": 1, "family": 1, "data": 1, "template": 1, "script": 1, "caption": 1, "key": 2, "key of a model": 1,
    "key of all": 1, "input": 1, "older input": 1, "touched input": 1, "new input": 1, **dict.fromkeys(HARMLESS, 0),
}  # fmt: skip
SLOW = {
    "module": 30, "family": 6, "data": 8, "template": 3, "script": 12, "caption": 12, "key": 40,
    "comment in a module": 5, "comment in a script": 4, "comment in rules": 2, "touched data": 4, "touched script": 4,
    "touched caption": 2,
}  # fmt: skip


def faults(plans: Plans, changes: list[Change]) -> list[str]:
    """What was missed or is needless, in words, for each change that is not as it should be."""
    assert plans.now()[0] == set(), "a finished run has something to do"
    found = []
    for change in changes:
        with kept(plans.folder / change.file):
            change.make(plans.folder / change.file)
            stale, given = plans.now()
        expected, odd = seen(plans, change, given)
        missed, needless = expected - stale, stale - expected
        if missed or needless or odd:
            found.append(f"{change.kind} {change.name}: missed {sorted(missed)}, needless {sorted(needless)}{odd}")
    assert plans.now()[0] == set(), "a change was not taken back"
    return found


def seen(plans: Plans, change: Change, given: dict[Job, dict]) -> tuple[set[Job], str]:
    """The jobs that can see a change, and what is odd about what they are given."""
    if change.of_rules is not None and not change.kind.startswith("key"):
        return plans.downstream({job for job in plans.jobs if job[0] in change.of_rules}), ""
    others = {job for job in given if given[job] != plans.jobs.get(job) or _reads(given[job], change.file)}
    rules, odd = {job[0] for job in others}, ""
    if change.of_rules is not None and rules:
        wrong = (rules ^ change.of_rules) - OWN_RECORD & {job[0] for job in plans.jobs}
        odd = f", given to others than take it: {sorted(wrong)}" if wrong else ""
    return (plans.downstream(others) | others) & given.keys(), odd  # of another effort, there are other jobs


def _reads(given: dict, file: str) -> bool:
    return any(path.endswith(f"/{file}") or path == file for path in given["input"])


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Put a file back as it was, time stamps included, or away if it was not there."""
    content = path.read_bytes() if path.exists() else None
    times = path.stat() if path.exists() else None
    try:
        yield
    finally:
        if times is None or content is None:
            path.unlink()
        else:
            path.write_bytes(content)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def finished_plans(folder: Path, name: str) -> Plans:
    project = Project.small(folder)
    config = project.folder / name
    if not config.exists():
        shutil.copy2(Path(__file__).with_name(name), config)
    plans = Plans(project.folder, config)
    plans.finish()
    return plans


def all_changes(config: str, *, by_class: bool) -> list[Change]:
    return [*code_changes(), *setting_changes(config, by_class=by_class), *input_changes()]


@pytest.mark.slow
def test_one_change_of_each_kind(tmp_path):
    plans = finished_plans(tmp_path / "project", "small.yaml")
    changes = all_changes("small.yaml", by_class=False)
    assert faults(plans, sample(changes, QUICK)) == []
    # Where nothing may run, all changes at once show as much as each alone.
    with ExitStack() as stack:
        for change in (change for change in changes if change.kind in HARMLESS):
            stack.enter_context(kept(plans.folder / change.file))
            change.make(plans.folder / change.file)
        assert plans.now()[0] == set()


@pytest.mark.slow
def test_changes_of_every_kind(tmp_path):
    plans = finished_plans(tmp_path / "project", "every_step.yaml")
    changes = all_changes("every_step.yaml", by_class=True)
    chosen = changes if os.environ.get("WEIGHT_ATLAS_CHANGES") == "all" else sample(changes, SLOW)
    assert len(chosen) >= 150
    assert faults(plans, chosen) == []
