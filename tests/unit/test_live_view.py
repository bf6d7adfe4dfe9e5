"""The live view of a run: what it makes of Snakemake's events, and of the logs of steps."""

import json
import logging

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_weight_atlas.failures import last_line, of_log, of_snakemake
from snakemake_logger_plugin_weight_atlas.view import View
from weight_atlas.workflow.renewal import RENEWED


def event(kind=None, level=logging.INFO, message="", **more):
    record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    record.__dict__.update({"event": kind, **more})
    return record


def job(number, name, log):
    return event(LogEvent.JOB_INFO, jobid=number, rule_name=name, wildcards={"model": "demo"}, log=[str(log)])


@pytest.fixture
def run(tmp_path, capsys):
    """A view that is told of a run of two steps; gives the screen and the failures."""

    def told(*events, silent=False):
        view = View(failures=tmp_path / "failures", silent=silent, dry_run=False)
        for each in (event(LogEvent.RUN_INFO, stats={"total": 2, "first": 1, "second": 1}), *events):
            view.see(each)
        view.end()
        path = tmp_path / "failures"
        failures = [json.loads(line) for line in path.open()] if path.exists() else []
        return capsys.readouterr().out, failures

    return told


def test_elsewhere_than_on_a_terminal_a_line_a_step(run, tmp_path):
    log = tmp_path / "a.log"
    steps = [job(1, "first", log), event(LogEvent.JOB_FINISHED, job_id=1), job(2, "se\x1bcond", log),
             event(LogEvent.JOB_FINISHED, job_id=2)]  # fmt: skip
    out, failures = run(*steps)
    assert out.splitlines() == ["[1/2] first demo (0:00)", r"[2/2] se\x1bcond demo (0:00)"]
    assert failures == []
    assert run(*steps, silent=True)[0] == ""


def test_renewed_steps_are_said_apart(run, tmp_path):
    log = tmp_path / "a.log"
    log.write_text(f"some\n{RENEWED}\n")
    out, _ = run(job(1, "first", log), event(LogEvent.JOB_FINISHED, job_id=1))
    assert out == "[1/2] first demo (renewed)\n"


def test_a_step_that_fails_says_once_what_its_log_says(run, tmp_path):
    log = tmp_path / "a.log"
    log.write_text("reading\nerror: the file is truncated\n  where: x.safetensors\n  what to do: copy it again\n")
    _, failures = run(
        job(1, "first", log),
        event(LogEvent.ERROR, logging.ERROR, 'CalledProcessError in file "steps.smk": returned non-zero exit status 1'),
        event(LogEvent.JOB_ERROR, logging.ERROR, jobid=1, rule_name="first", log=[str(log)]),
        event(None, logging.ERROR, "Exiting because a job execution failed. Look below for error messages"),
    )
    said = "the file is truncated\n  where: x.safetensors\n  what to do: copy it again"
    assert failures == [{"message": said, "step": "first demo", "logs": [str(log)]}]


def test_a_full_disk_is_one_message_where_snakemake_itself_met_it(run, tmp_path):
    error = event(
        LogEvent.ERROR, logging.ERROR, 'OSError in file "steps.smk", line 26:\n[Errno 28] No space left on device'
    )
    failed = event(LogEvent.JOB_ERROR, logging.ERROR, jobid=1, rule_name="first", log=[str(tmp_path / "none.log")])
    _, failures = run(job(1, "first", tmp_path / "none.log"), error, failed, error, failed)
    (failure,) = failures
    assert (
        failure["message"].startswith("no space left on the device")
        and "run the same command again" in failure["message"]
    )


def test_messages_of_snakemake_without_its_own_files():
    text = (
        'WorkflowError in file "/x/rules/common.smk", line 40:',
        "unknown key 'phase'",
        "  where: here",
        '  File "/x/Snakefile", line 3, in <module>',
    )
    assert of_snakemake("\n".join(text)) == "unknown key 'phase'\n  where: here"


def test_logs_are_read_from_their_end(tmp_path):
    log = tmp_path / "a.log"
    assert of_log([log]) is None and last_line(log) == ""
    log.write_text("one\n10%\r20%\r30%\r")
    assert last_line(log) == "30%"
    log.write_text("\n".join(f"line {number}" for number in range(40)) + "\nTypeError: bad \x1b[2J\n")
    assert of_log([log]).splitlines()[-1] == r"TypeError: bad \x1b[2J"
    assert len(of_log([log]).splitlines()) == 15
