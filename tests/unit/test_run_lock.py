"""One run at a time: kernel locks, and files that name their holder where there are none."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.workflow.run_lock import hold_all, refuse_results_of_another

HOLD = """
import errno, fcntl, os, pathlib, sys
from weight_atlas.errors import AtlasError
from weight_atlas.workflow.run_lock import hold_all

def refuse(descriptor, operation):
    raise OSError(errno.ENOLCK, "No locks available")

if "without" in sys.argv:
    fcntl.flock = refuse
try:
    hold_all(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
except AtlasError as error:
    sys.exit(str(error))
print("held", flush=True)
sys.stdin.read()
"""
FILE = "shared/.weight-atlas/lock-holder.json"


@pytest.fixture
def hold(tmp_path):
    """Start a process that holds a directory of its own and shared results, and ends with its input."""
    started = []

    def start(directory, *how):
        command = [sys.executable, "-c", HOLD, tmp_path / directory, tmp_path / "shared", *how]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_directory_is_one_runs_and_needs_no_cleaning(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    held = hold_all(tmp_path, first)
    with pytest.raises(AtlasError, match="another run is at work in this directory"):
        hold_all(tmp_path, second)
    for descriptor in held:
        os.close(descriptor)
    for descriptor in hold_all(tmp_path, second):
        os.close(descriptor)


@pytest.mark.parametrize("how", [[], ["without"]])
def test_results_that_two_directories_share_are_one_runs(tmp_path, hold, how):
    first = hold("first", *how)
    assert first.stdout.readline() == "held\n"
    said = hold("second", *how).communicate()[1]
    assert f"another run writes to these results\n  where: {tmp_path / 'shared'}\n" in said
    assert "wait for it, stop it, or use other results (pathvars: results)" in said
    first.kill()
    first.communicate()
    third = hold("third", *how)
    assert third.stdout.readline() == "held\n", third.stderr.read()
    third.communicate()
    assert not (tmp_path / FILE).exists()


def test_where_there_are_no_locks_one_of_many_that_start_at_once_goes_on(tmp_path, hold):
    """Beside the file of one that was killed, which each of them may take away."""
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 - 3, "started": 0.0}))
    processes = [hold(str(number), "without") for number in range(8)]
    lines = []
    while len(lines) < len(processes) - 1:  # all but the one that waits for its input
        done = [process for process in processes if process.poll() is not None]
        lines = [process.stderr.read() for process in done] if len(done) == len(processes) - 1 else lines
    assert all("another run writes to these results" in line for line in lines)
    (left,) = [process for process in processes if process.poll() is None]
    assert left.stdout.readline() == "held\n"


def test_what_another_machine_holds_is_left_to_the_user(tmp_path, hold):
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_text(json.dumps({"host": "node7", "pid": 12, "started": 0.0}))
    said = hold("first", "without").communicate()[1]
    assert f"if that run is gone (process 12 of node7): rm {tmp_path / FILE}" in said
    (tmp_path / FILE).write_text("{")  # cut short by a crash
    assert f"cannot be read\n  where: {tmp_path / FILE}" in hold("first", "without").communicate()[1]


def test_results_outside_belong_to_the_directory_that_made_them(tmp_path):
    first, second, results = tmp_path / "first \udcff", tmp_path / "second", tmp_path / "shared"  # not UTF-8
    refuse_results_of_another(first, results)
    for descriptor in hold_all(first, results):
        os.close(descriptor)
    refuse_results_of_another(first, results)
    with pytest.raises(AtlasError, match=f"made in another directory, {tmp_path}/first "):
        refuse_results_of_another(second, results)
    first.rename(second)
    refuse_results_of_another(second, results)
    own = second / "results"  # which are copied with their directory
    results.rename(own)
    shutil.copytree(second, tmp_path / "copy")
    refuse_results_of_another(tmp_path / "copy", tmp_path / "copy/results")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_a_warning_says_so(tmp_path, monkeypatch, capsys, number):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    for descriptor in hold_all(tmp_path, tmp_path / "results"):
        os.close(descriptor)
    assert f"warning: the file system of {tmp_path} has no locks" in capsys.readouterr().err
