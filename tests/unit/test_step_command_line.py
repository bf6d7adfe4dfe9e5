"""A script on the command line: its options and what is wrong with them."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import Field
from settings_of_steps import Own, Phases

from weight_atlas.settings.base import Settings
from weight_atlas.workflow.step import run_step


def test_keys_of_settings_on_the_command_line(monkeypatch, capfd):
    seen = []

    def main(table: Path, *, ranks: Phases, own: Own, device: str = "cpu") -> None:
        """Rank a table."""
        seen.append((ranks, own))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["rank.py", "--table", "x", *arguments])
        run_step(main, {})

    call()
    call("--phases", "4", "--limit", "1e-3", "--tags", "a", "--tags", "b")
    call("--limit", "none")
    assert seen == [(Phases(), Own()), (Phases(phases=4, limit=1e-3), Own(tags=["a", "b"])), (Phases(), Own())]
    with pytest.raises(SystemExit) as help_:
        call("--help")
    assert not help_.value.code
    shown = capfd.readouterr().out
    assert "Rank a table." in shown and "Phases that the layers are cut into." in shown and "[default: 3]" in shown
    with pytest.raises(SystemExit) as wrong:
        call("--phases", "1")
    assert wrong.value.code == 1
    message = capfd.readouterr().err
    assert "phases: should be greater than or equal to 2, not 1" in message
    assert "where: command line: phases\n  what to do: Phases that the layers are cut into." in message


class Nested(Settings):
    """Settings with lists by name."""

    neurons: dict[str, list[list[int]]] = Field({}, description="Neurons by model.")


def test_lists_by_name_are_one_text_on_the_command_line(monkeypatch, capfd):
    seen = []

    def main(table: Path, *, own: Nested) -> None:
        seen.append(own.neurons)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["cards.py", "--table", "x", *arguments])
        run_step(main, {})

    call()
    call("--neurons", "{demo: [[0, 1]]}")
    assert seen == [{}, {"demo": [[0, 1]]}]
    for wrong, said in (("{demo: [[0, one]]}", "neurons.demo.0.1: should be"), ("{", "'{' is no YAML")):
        with pytest.raises(SystemExit) as end:
            call("--neurons", wrong)
        assert end.value.code == 1
        assert said in (message := capfd.readouterr().err) and "command line: " in message


def test_a_gpu_is_taken_where_the_command_line_says_so(monkeypatch):
    leased = []

    @contextmanager
    def lease(gpus):
        leased.append(gpus)
        yield "cpu"

    def main(table: Path, *, device: str = "cpu") -> None:
        pass

    def without(table: Path) -> None:
        pass

    monkeypatch.setattr("weight_atlas.workflow.step._held_device", lease)
    for function, arguments in ((main, []), (main, ["--device", "cuda"]), (without, [])):
        monkeypatch.setattr(sys, "argv", ["step.py", "--table", "x", *arguments])
        run_step(function, {})
    assert leased == [0, 1, None]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "gpu"], "gpu"),
        (["--threads", "0"], "--threads"),
        (["--threads", "-1"], "--threads"),
        (["--threads", "1", "--threads", "2"], "specified multiple times"),
        (["--phases", "2.5"], "2.5"),
        (["--phases", "99999999999999999999"], "less than 2^63"),
        (["--phase", "3"], "--phases"),
        (["extra", "more"], "more"),
        (["--limit", "nan"], "finite"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_one_message(monkeypatch, capfd, arguments, said):
    def main(table: Path, *, ranks: Phases, threads: int = 1, device: str = "cpu") -> None:
        raise AssertionError("must not run")

    monkeypatch.setattr(sys, "argv", ["rank.py", "--table", "x", *arguments])
    with pytest.raises(SystemExit) as end:
        run_step(main, {})
    printed = capfd.readouterr()
    assert end.value.code == 1 and printed.out == ""
    assert printed.err.startswith("error: ") and said in printed.err and "where: command line" in printed.err


SCRIPT = '''"""Copy a text."""
from pathlib import Path
from weight_atlas.workflow.step import run_step

def main(text: Path, *, copy: Path, times: int = 1, tags: list[str] | None = None) -> None:
    """Copy a text some times."""
    copy.write_text(text.read_text() * times + ",".join(tags or []))

if __name__ == "__main__":
    run_step(main, globals())
'''


def test_command_line(tmp_path):
    script, text, copy = tmp_path / "copy_text.py", tmp_path / "a.txt", tmp_path / "b.txt"
    script.write_text(SCRIPT)
    text.write_text("hi")
    call = [sys.executable, script, "--text", text, "--copy", copy, "--times", "2", "--tags", "x"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (done.returncode, copy.read_text()) == (0, "hihix")
    assert (
        "Copy a text some times"
        in subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True).stdout
    )
    wrong = subprocess.run([*call, "--tiems", "3"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "--tiems" in wrong.stdout + wrong.stderr
    assert "Traceback" not in wrong.stdout + wrong.stderr
