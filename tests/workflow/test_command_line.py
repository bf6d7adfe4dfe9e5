"""The command as people use it: in a terminal, in a pipe, stopped, without a network, beside another run."""

import fcntl
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import await_true, running

from weight_atlas.checkpoint.source import bundled

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from standin_hub import Repository, standin_hub

pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).with_name("weight-atlas")
SCAN = ("scan", "bundled:demo", "--methods", "effective_rank", "--workers", "2")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**inherited, "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", **more}


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command with its output in pipes."""
    command = [COMMAND, *arguments]
    return subprocess.run(command, cwd=folder, env=environment(**more), capture_output=True, text=True, check=False)


class Terminal:
    """The command in a pseudo-terminal of its own, as a shell's foreground job."""

    def __init__(self, folder: Path, *arguments: str):
        self.process, self.screen = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.execve(COMMAND, [str(COMMAND), *arguments], environment(COLUMNS="100", LINES="40"))
        self.text = ""

    def read(self, until: str | None = None, seconds: float = 900) -> str:
        """What it shows, to the end, or as soon as a text is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and (until is None or until not in self.text):
            if not select.select([self.screen], [], [], 1)[0]:
                continue
            try:
                part = os.read(self.screen, 65536)
            except OSError:  # it ended
                break
            if not part:
                break
            self.text += part.decode(errors="replace")
        return self.text

    def interrupt(self) -> None:
        os.write(self.screen, b"\x03")

    def code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A folder with a scan that was made in a terminal, and what the terminal showed."""
    folder = tmp_path_factory.mktemp("scanned")
    terminal = Terminal(folder, *SCAN, "--top-issues", "3")
    text = terminal.read()
    assert terminal.code() == 0, text
    return folder, text


def test_a_terminal_shows_the_run_and_then_what_it_found(scanned):
    _, text = scanned
    assert "\x1b[" in text and "/7 steps" in text
    assert re.search(r"effective_rank demo\s", ESCAPE.sub("", text)), "the step that runs is named"
    last = ESCAPE.sub("", text.rpartition("steps")[2])
    for said in ("demo  bundled:demo", "notable", "condition number: highest 3 of", "by chance", "weight-atlas.yaml"):
        assert said in last, said


def test_what_was_made_is_kept_and_a_pipe_gets_neither_colour_nor_progress(scanned):
    folder, _ = scanned
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*") if path.is_file()}
    done = run(folder, *SCAN, "--json", "--output", "report.sarif", "--fail-on", "notable")
    assert done.returncode == 2, done.stderr
    assert done.stderr == ""
    (model,) = json.loads(done.stdout)["models"]
    assert model["model"] == "demo" and model["tables"][0]["metric"] == "effective_rank.condition"
    assert "\x1b" not in done.stdout
    assert json.loads((folder / "report.sarif").read_text())["version"] == "2.1.0"
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_second_command_meanwhile_is_told_so(scanned):
    folder, _ = scanned
    with (folder / ".snakemake/weight-atlas.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(folder, "scan", "bundled:demo", "--methods", "heavy_tail")
    assert done.returncode == 1
    assert "another run is at work in this directory" in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1


def test_a_dry_run_says_what_would_run_and_writes_nothing(tmp_path):
    done = run(tmp_path, *SCAN, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would run 7 steps" in done.stderr and "effective_rank" in done.stderr
    assert not (tmp_path / "weight-atlas.yaml").exists() and not (tmp_path / "results").exists()


def test_ctrl_c_keeps_what_is_finished_and_says_so(tmp_path):
    terminal = Terminal(tmp_path, *SCAN)
    terminal.read(until="1/7 steps")
    terminal.interrupt()
    text = ESCAPE.sub("", terminal.read())
    assert terminal.code() == 130, text
    assert "interrupted: what was finished is kept" in text and "Traceback" not in text
    assert (tmp_path / "results/checkpoints/demo.json").exists() and (tmp_path / "weight-atlas.yaml").exists()
    # No step outlives it: the kernel ends them when the workflow is gone, and needs a moment for it.
    await_true(lambda: str(tmp_path) not in running())


def test_a_model_by_its_name_on_the_hub(tmp_path):
    files = {path.name: path.read_bytes() for path in bundled("demo").iterdir() if path.is_file()}
    with standin_hub({"org/model": Repository(files)}) as hub:
        options = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}
        done = run(tmp_path, "scan", "--model", "org/model", "--methods", "effective_rank", "-q", **options)
        assert done.returncode == 0, done.stderr
        assert "model  hf://org/model, commit 0123456789ab" in done.stdout
        wrong = run(tmp_path, "scan", "org/other", **options)
    assert wrong.returncode == 1
    assert wrong.stderr.count("error: ") == 1 and "the hub has no such model" in wrong.stderr
    assert "org/other" not in (tmp_path / "weight-atlas.yaml").read_text()


def test_without_a_network_one_message(tmp_path):
    done = run(tmp_path, "scan", "org/model", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "hub"))
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1 and "the hub cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "weight-atlas.yaml").exists()


def test_a_step_that_fails_is_named_with_its_message_and_its_log(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in bundled("demo").iterdir():
        (folder / path.name).write_bytes(path.read_bytes()[:-1] if path.suffix == ".safetensors" else path.read_bytes())
    done = run(tmp_path, "scan", "broken", "--output", "report.xml")
    assert done.returncode == 1
    assert (
        done.stderr.count("error: ") == 1
        and "truncated" in done.stderr
        and "step: fetch_checkpoint broken" in done.stderr
    )
    shown = run(tmp_path, "where")
    assert "failed: logs/fetch_checkpoint/broken.log" in shown.stdout
    assert "truncated" in (tmp_path / "report.xml").read_text()
