"""A step as a process: its end with the workflow, its threads, and a full disk."""

import os
import signal
import subprocess
import sys

import pytest
from waiting import await_true, is_gone


def test_a_step_dies_with_the_workflow_even_if_a_shell_survives_between(tmp_path):
    step = (
        "import time; from weight_atlas.workflow import step; step._die_with_workflow();"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid())); time.sleep(600)"
    )
    # The shell must not replace itself by python: it has a command left to run.
    workflow = (
        f"import subprocess, sys; subprocess.run(['bash', '-c', '\"$0\" -c \"$1\"; true', sys.executable, {step!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", workflow, "snakemake"])
    written = tmp_path / "pid"
    pid = int(await_true(lambda: written.exists() and written.read_text()))
    process.send_signal(signal.SIGKILL)
    process.wait()
    await_true(lambda: is_gone(pid))


def test_a_step_that_comes_too_late_does_not_start():
    code = "from weight_atlas.workflow import step; step._die_with_workflow(); print('started')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "the workflow that started this step is gone\n"


def test_threads_are_limited(monkeypatch):
    code = (
        "from weight_atlas.workflow.step import run_step\n"
        "def main(threads: int = 1) -> None:\n"
        "    import numpy, torch, threadpoolctl\n"
        "    print(torch.get_num_threads(), {p['num_threads'] for p in threadpoolctl.threadpool_info()})\n"
        "run_step(main, globals())\n"
    )
    environment = {key: value for key, value in os.environ.items() if "THREADS" not in key}
    done = subprocess.run(
        [sys.executable, "-c", code, "--threads", "2"], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split(maxsplit=1)[0] == "2"


@pytest.mark.parametrize("log", ["/dev/full", None])
def test_a_full_disk_ends_a_step_with_a_message_on_the_terminal(tmp_path, log):
    """Also where the log is on that disk: /dev/full takes nothing."""
    code = f"""
import errno, os
from types import SimpleNamespace
from typing import Annotated
from weight_atlas.workflow import step
step._die_with_workflow = lambda: None

class Named(dict):
    pass

def main(*, table):
    print("working", flush={log is not None})
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "table.csv")

job = SimpleNamespace(rule="r", input=Named(), output=Named(table="table.csv"), params=Named(), wildcards=Named(),
                      resources=dict(), threads=1, log={[log] if log else []})
main.__annotations__ = dict(table=str)
step.run_step(main, dict(snakemake=job))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "error: no space left on the device" in done.stderr and "what to do: free some room" in done.stderr
    assert "Traceback" not in done.stderr
