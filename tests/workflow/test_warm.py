"""Steps of a real run are forks of one process, and their logs, benchmarks and failures are those of any step."""

import subprocess
import sys
import time
from contextlib import suppress
from typing import NamedTuple

import psutil
import pytest
from project import SMALL, SNAKEMAKE, Project

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="elsewhere steps are not forked")]


class Child(NamedTuple):
    pid: int
    command: str


def children(pid):
    found = []
    with suppress(psutil.Error):  # gone meanwhile
        for each in psutil.Process(pid).children():
            found.append(Child(each.pid, " ".join(each.cmdline())))
    return found


def test_steps_are_forked_and_measured_and_fail_as_any_step(tmp_path):
    project = Project.small(tmp_path / "project")
    target = "results/effective_rank/mine.csv"
    command = [SNAKEMAKE, target, "--cores", "1", *SMALL]
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=project.folder, env=project.environment, **said)
    warm, ran = set(), set()
    while process.poll() is None:
        for each in children(process.pid):
            warm |= {each.pid} if "weight_atlas.workflow.forks" in each.command else set()
            ran |= {each.pid} if ".snakemake/scripts" in each.command else set()
        time.sleep(0.1)
    assert process.returncode == 0, process.stdout.read()
    assert len(warm) == 1 and not ran
    assert not any(map(psutil.pid_exists, warm))
    log = (project.folder / "logs/effective_rank/mine.log").read_text()
    assert log.startswith("versions: ") and "\nok " in log
    columns, *rows = (project.folder / "logs/benchmarks/effective_rank/mine.tsv").read_text().splitlines()
    measured = dict(zip(columns.split("\t"), rows[0].split("\t"), strict=True))
    assert len(rows) == 1 and float(measured["s"]) > 0 and float(measured["max_rss"]) > 0

    script = project.folder / "scripts/effective_rank.py"
    wrong = "    from weight_atlas.errors import AtlasError\n    raise AtlasError('nothing is right')\n    ranks ="
    script.write_text(script.read_text().replace("    ranks =", wrong))
    done = project.start_snakemake(target, "--cores", "1", *SMALL, check=False)
    assert done.returncode == 1
    assert "returned non-zero exit status 1" in done.stderr and "error: nothing is right" in done.stderr
    assert "Traceback" not in done.stderr, done.stderr[-5000:]
