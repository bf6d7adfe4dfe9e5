"""The command `weight-atlas`."""

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from weight_atlas.command import main
from weight_atlas.command.steps import description_of, step_scripts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command; returns its exit code, what it printed, and what was wrong."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["weight-atlas", *arguments])
        monkeypatch.setenv("COLUMNS", "300")
        try:
            main()
        except SystemExit as end:
            printed = capsys.readouterr()
            wrong = end.code if isinstance(end.code, str) else printed.err
            return 1 if isinstance(end.code, str) else end.code or 0, printed.out, wrong
        return 0, capsys.readouterr().out, ""

    return run


def test_help_of_run_lists_every_step_with_what_it_does(command):
    code, out, _ = command("run", "--help")
    assert code == 0
    assert set(step_scripts()) == {path.stem for path in (ROOT / "scripts").glob("*.py")}
    for name, script in step_scripts().items():
        assert any(name in line and description_of(script)[:40] in line for line in out.splitlines()), name


def test_a_step_reads_its_own_command_line(command, tmp_path):
    source = tmp_path / "absent"
    code, _, wrong = command("run", "fetch_checkpoint", "--manifest", str(tmp_path / "m.json"), "--source", str(source))
    assert code == 1
    assert "the folder does not exist" in wrong and str(source) in wrong
    code, out, _ = command("run", "effective_rank", "--help")
    assert code == 0 and "--singular-values" in out and "--phases" in out
    code, _, _ = command("run", "effective_rank", "--phase", "3")
    assert code == 1


@pytest.mark.parametrize(("arguments", "near"), [(("run", "efective_rank"), "effective_rank"), (("rnu",), "run")])
def test_a_wrong_name_is_answered_with_the_nearest(command, arguments, near):
    code, _, wrong = command(*arguments)
    assert code == 1
    assert f'Did you mean "{near}"' in wrong and "what to do" in wrong


def test_version_and_snakefile(command):
    assert command("--version")[1].strip() == version("weight-atlas")
    assert Path(command("snakefile")[1].strip()) == ROOT / "Snakefile"


def test_estimate_says_what_a_configuration_costs_by_effort(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "mine.yaml"
    config.write_text(
        "{models: {mine: {source: 'bundled:demo', analyses: [super_weights, cascade]}, far: {source: 'hf://a/b'}}}"
    )
    code, out, _ = command("estimate", str(config), "--cores", "2")
    assert code == 0 and "mine (1 million parameters, effort standard)" in out
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == [
        "no", "super_weights", "cascade", "together", "on",
    ]  # fmt: skip
    assert "far: unknown until it is fetched" in out
    assert "All models by effort, with one super weight each, on 2 cores: quick" in out
    assert "effort quick)" in command("estimate", str(config), "--effort", "quick")[1]
    own = "{models: {mine: {source: 'bundled:demo', analyses: [cascade], effort: thorough}}}"
    config.write_text(own)
    assert "effort thorough)" in command("estimate", str(config))[1]
    assert "effort quick)" in command("estimate", str(config), "--effort", "quick")[1]
    config.write_text("{models: {mine: {source: 'bundled:demo', analyses: [effective_rank]}}}")
    assert command("estimate", str(config))[1] == "No step of this configuration runs a model.\n"


@pytest.mark.parametrize(
    ("text", "arguments", "parts"),
    [
        (None, [], ["cannot read", "absent.yaml"]),
        ("{models: {m: {source: x}}, effort: fast}", [], ["effort: should be 'quick'"]),
        ("{models: {m: {source: x, effort: 3}}}", ["--effort", "quick"], ["models.m.effort"]),
        ("[1, 2]", [], ["should be a mapping"]),
        ("{a: [", [], ["not valid YAML"]),
        ("{models: {m: {source: x}}}", ["--cores", "0"], ["0 cores"]),
        ("{models: {m: {source: x}}}", ["--effort", "fast"], ["fast"]),
    ],
)
def test_estimate_has_one_message_for_what_is_wrong(command, tmp_path, text, arguments, parts):
    config = tmp_path / "absent.yaml"
    if text is not None:
        config.write_text(text)
    code, _, wrong = command("estimate", str(config), *arguments)
    assert code == 1 and all(part in wrong for part in parts), wrong


@pytest.mark.parametrize("arguments", [("snakefile",), ("scan", "x", "--json")])
def test_a_reader_that_left_ends_it_silently_as_unix_tools_end(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    called = [sys.executable, "-m", "weight_atlas", *arguments]
    done = subprocess.run(called, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan", "x"),
        ("scan", "bundled:demo", "--methods", "spectrl"),
        ("scan", "bundled:demo", "--thresholds", "none.yaml"),
        ("scan", "bundled:demo", "--workers", "0"),
        ("compare", "bundled:demo", "bundled:demo"),
        ("lineage", "bundled:demo"),
        ("series", "none/*"),
        ("inspect", "x"),
        ("check",),
        ("why", "none.csv"),
        ("snakefile",),  # which has no --json
    ],
    ids=" ".join,
)
def test_with_json_an_error_before_a_run_is_the_document(command, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, out, wrong = command(*arguments, "--json")
    assert code == 1 and wrong.startswith("error: ")
    found = json.loads(out)
    assert found == {"schema": 1, "models": [], "failures": [{"message": wrong[7:], "step": "", "logs": []}]}
    assert command(*arguments)[1] == "" or arguments == ("snakefile",)
