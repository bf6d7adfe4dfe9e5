"""One main() as a job and as a command line tool."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import Field

from weight_atlas.errors import AtlasError
from weight_atlas.settings.base import Settings, Several
from weight_atlas.workflow.step import run_step


class Named(dict):
    """Stands in for Snakemake's Namedlist where step.py uses it."""


def job(tmp_path, *, inputs=None, outputs=None, options=None, params=None, wildcards=None, resources=None, threads=1):
    return SimpleNamespace(
        rule="example",
        input=Named(inputs or {}),
        output=Named(outputs or {}),
        params=Named({"options": options or {}, "code": "abc", **(params or {})}),
        wildcards=Named(wildcards or {}),
        resources=resources or {},
        threads=threads,
        log=[],
    )


@pytest.fixture(autouse=True)
def keep_process_settings(monkeypatch):
    monkeypatch.setattr("weight_atlas.workflow.step._die_with_workflow", lambda: None)
    monkeypatch.setattr("weight_atlas.workflow.step._limit_threads", lambda threads: None)


def test_binds_inputs_outputs_options_and_what_main_asks_for(tmp_path):
    seen = {}

    def main(table: Path, *, parts: list[Path], figure: Path, phases: int = 3, model: str, threads: int = 1) -> None:
        seen.update({k: v for k, v in locals().items() if k != "seen"})

    inputs, outputs = {"table": "a.csv", "parts": ["p1", "p2"]}, {"figure": "b.png"}
    wildcards = {"model": "demo", "unused": "x"}
    run_step(
        main,
        {
            "snakemake": job(
                tmp_path, inputs=inputs, outputs=outputs, options={"phases": 5}, wildcards=wildcards, threads=4
            )
        },
    )
    assert seen["table"] == Path("a.csv")
    assert seen["parts"] == [Path("p1"), Path("p2")]
    assert (seen["figure"], seen["phases"], seen["model"], seen["threads"]) == (Path("b.png"), 5, "demo", 4)


def test_a_file_that_a_rule_gives_as_a_list_is_one_or_none(tmp_path):
    seen = []

    def main(table: Path | None = None) -> None:
        seen.append(table)

    for files in (["a.csv"], [], "a.csv"):
        run_step(main, {"snakemake": job(tmp_path, inputs={"table": files})})
    assert seen == [Path("a.csv"), None, Path("a.csv")]
    with pytest.raises(ValueError, match="too many"):
        run_step(main, {"snakemake": job(tmp_path, inputs={"table": ["a.csv", "b.csv"]})})


class Phases(Settings):
    """Settings of a step."""

    phases: Several = Field(3, description="Phases that the layers are cut into.")
    limit: float | None = Field(None, gt=0, description="Largest value; null: all.")


class Own(Settings):
    """Settings of a model."""

    tags: list[str] = Field([], description="Names.")


def test_keys_of_settings_are_names_of_their_own(tmp_path):
    seen = []

    def main(table: Path, *, figure: Path, ranks: Phases, own: Own, model: str) -> None:
        seen.extend([ranks, own, model])

    options = {"phases": 5, "limit": None, "tags": ["a"]}
    given = {"inputs": {"table": "a.csv"}, "outputs": {"figure": "b.png"}, "wildcards": {"model": "demo"}}
    run_step(main, {"snakemake": job(tmp_path, **given, options=options)})
    assert seen == [Phases(phases=5), Own(tags=["a"]), "demo"]
    for wrong in ({"phases": 5, "tags": []}, {**options, "phasse": 1}):
        with pytest.raises(TypeError, match="disagree"):
            run_step(main, {"snakemake": job(tmp_path, **given, options=wrong)})


def test_two_settings_cannot_share_a_key(tmp_path):
    def main(ranks: Phases, *, phases: int) -> None:
        raise AssertionError("must not run")

    with pytest.raises(TypeError, match=r"\['phases'\] twice"):
        run_step(main, {"snakemake": job(tmp_path)})


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


def test_a_single_file_given_to_a_list_is_a_list(tmp_path):
    seen = []

    def main(parts: list[Path]) -> None:
        seen.extend(parts)

    run_step(main, {"snakemake": job(tmp_path, inputs={"parts": "only"})})
    assert seen == [Path("only")]


@pytest.mark.parametrize("options", [{"phases": 3, "phasse": 4}, {}])
def test_a_name_that_one_side_lacks_is_an_error(tmp_path, options):
    def main(phases: int) -> None:
        raise AssertionError("must not run")

    with pytest.raises(TypeError, match="disagree"):
        run_step(main, {"snakemake": job(tmp_path, options=options)})


def test_an_atlas_error_is_one_message_and_exit_code_1(tmp_path, capfd):
    def main() -> None:
        raise AtlasError("the shard is truncated", where="model.safetensors", remedy="download it again")

    with pytest.raises(SystemExit) as exit_:
        run_step(main, {"snakemake": job(tmp_path)})
    message = capfd.readouterr().err
    assert exit_.value.code == 1
    assert message == "error: the shard is truncated\n  where: model.safetensors\n  what to do: download it again\n"


def test_other_exceptions_keep_their_traceback(tmp_path):
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_step(main, {"snakemake": job(tmp_path)})


def test_device_is_cpu_without_a_gpu_and_the_log_says_so(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    seen = []

    def main(device: str = "cpu") -> None:
        seen.append(device)

    run_step(main, {"snakemake": job(tmp_path, resources={"gpu": 1})})
    run_step(main, {"snakemake": job(tmp_path, resources={"gpu": 0})})
    assert seen == ["cpu", "cpu"]
    assert capfd.readouterr().out.splitlines() == ["device: cpu (no CUDA device on this machine)"] * 2


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
    pid = _eventually(lambda: int((tmp_path / "pid").read_text()) if (tmp_path / "pid").exists() else None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _eventually(lambda: not _alive(pid))


def test_a_step_that_comes_too_late_does_not_start():
    code = "from weight_atlas.workflow import step; step._die_with_workflow(); print('started')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "the workflow that started this step is gone\n"


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _eventually(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if result := condition():
                return result
        except ValueError:
            pass
        time.sleep(0.05)
    raise AssertionError("did not happen in time")


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


def test_what_the_file_system_refuses_is_a_message(capsys):
    def main(*, table: Path) -> None:
        raise PermissionError(13, "Permission denied", str(table))

    with pytest.raises(SystemExit) as end:
        run_step(main, {"snakemake": job(None, outputs={"table": "a.csv"})})
    assert end.value.code == 1
    assert "error: permission denied\n  where: a.csv" in capsys.readouterr().err


def test_a_package_of_an_extra_that_is_not_there_is_named_with_the_extra(tmp_path, capsys):
    def main(*, table: Path) -> None:
        raise ModuleNotFoundError("No module named 'lm_eval'", name="lm_eval.tasks")

    with pytest.raises(SystemExit) as end:
        run_step(main, {"snakemake": job(tmp_path, outputs={"table": "a.csv"})})
    assert end.value.code == 1
    assert "lm_eval is not installed" in (said := capsys.readouterr().err) and '".[eval]"' in said


def test_another_module_that_is_not_there_is_a_defect(tmp_path):
    def main(*, table: Path) -> None:
        raise ModuleNotFoundError("No module named 'pands'", name="pands")

    with pytest.raises(ModuleNotFoundError):
        run_step(main, {"snakemake": job(tmp_path, outputs={"table": "a.csv"})})
