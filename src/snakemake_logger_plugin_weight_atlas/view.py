"""The state of a run as its events tell it, and the screen that shows it."""

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from logging import ERROR, LogRecord
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_weight_atlas.failures import last_line, of_log, of_snakemake, shown
from weight_atlas.workflow.renewal import is_renewed

_MOST_SHOWN = 8  # running steps
# What Snakemake says at the end of a run in which steps failed, or that was stopped: that was said before.
_SAID_ALREADY = (
    "Exiting because a job execution failed",
    "At least one job did not complete successfully",
    "returned non-zero exit status",  # of a step, whose own event follows
)


@dataclass
class Step:
    """A job: its rule, what it is of, its logs; started: by time.monotonic(). Snakemake tells of a job as it starts."""

    name: str
    of: str
    logs: list[str] = field(default_factory=list)
    started: float = 0.0

    @property
    def title(self) -> str:
        return shown(f"{self.name} {self.of}".rstrip())


class View:
    """Shows a run on standard output, which the command weight-atlas makes its own standard error."""

    def __init__(self, *, failures: Path | None, silent: bool, dry_run: bool):
        self.failures, self.silent, self.dry_run = failures, silent, dry_run
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=False)
        self.jobs: dict[int, Step] = {}
        self.running: dict[int, Step] = {}
        self.planned: Counter[str] = Counter()
        self.done = self.total = self.renewed = 0
        self.told: set[str] = set()
        self.began = time.monotonic()
        self.live: Live | None = None

    def see(self, record: LogRecord) -> None:
        """Take in one event."""
        event: Any = getattr(record, "event", None)
        seen = {
            LogEvent.RUN_INFO: self._plan,
            LogEvent.JOB_INFO: self._know,
            LogEvent.JOB_FINISHED: self._finish,
            LogEvent.PROGRESS: self._progress,
            LogEvent.JOB_ERROR: self._fail,
            LogEvent.ERROR: self._error,
        }.get(event)
        if seen is not None:
            seen(record)
        elif event is None and record.levelno >= ERROR:
            self._error(record)

    def end(self) -> None:
        """Remove what stands on the screen only as long as the run goes on."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _plan(self, record: Any) -> None:
        self.planned = Counter({rule: n for rule, n in record.stats.items() if rule != "total"})
        self.total = sum(self.planned.values())
        if self.dry_run:
            self._print_plan()
        elif self.console.is_terminal and not self.silent and self.live is None:
            self.live = Live(
                get_renderable=self._screen, console=self.console, refresh_per_second=4, transient=True,
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self.live.start()

    def _print_plan(self) -> None:
        """Say what a dry run would run; Snakemake tells it twice."""
        if not self.jobs:
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        for rule, number in self.planned.items():
            table.add_row(shown(rule), Text(str(number), justify="right"))
        self.console.print(Text(f"would run {self.total} steps", style="bold"))
        self.console.print(table)

    def _know(self, record: Any) -> None:
        of = " ".join(str(value) for value in (record.wildcards or {}).values())
        step = Step(record.rule_name, of, [str(path) for path in record.log], time.monotonic())
        self.jobs[record.jobid] = self.running[record.jobid] = step

    def _finish(self, record: Any) -> None:
        if (step := self.running.pop(record.job_id, None)) is not None and not self.dry_run:
            self.done += 1
            took = _time(time.monotonic() - step.started)
            if any(is_renewed(Path(log)) for log in step.logs):
                self.renewed, took = self.renewed + 1, "renewed"
            if self.live is None and not self.silent:
                self.console.print(Text(f"[{self.done}/{self.total}] {step.title} ({took})"), soft_wrap=True)

    def _progress(self, record: Any) -> None:
        self.done, self.total = record.done, record.total

    def _fail(self, record: Any) -> None:
        step = self.running.pop(record.jobid, None) or self.jobs.get(record.jobid) or Step(record.rule_name, "")
        said = of_log(record.log)
        if said is None and self.told:  # Snakemake could not so much as start it, and told why
            return
        self._say(said or "the step failed and said nothing", step=step.title, logs=list(record.log))

    def _error(self, record: Any) -> None:
        message = record.getMessage()
        if any(said in message for said in _SAID_ALREADY) or getattr(record, "exception", "") == "KeyboardInterrupt":
            return
        if message.startswith(("Incomplete, since steps failed", "Steps failed")):
            return  # each of which was said as it failed
        said = of_snakemake(message)
        if said not in self.told:
            self.told.add(said)
            self._say(said)

    def _say(self, message: str, step: str = "", logs: list[str] | None = None) -> None:
        if self.failures is not None:
            with self.failures.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"message": message, "step": step, "logs": logs or []}) + "\n")
            return
        self.console.print(Text("error: ", style="bold red") + Text(message), soft_wrap=True)
        if step:
            self.console.print(Text(f"  step: {step}"), soft_wrap=True)

    def _screen(self) -> RenderableType:
        now = time.monotonic()
        renewed = f", {self.renewed} renewed" if self.renewed else ""
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=max(self.total, 1), completed=self.done, width=30),
            Text(f"{self.done}/{self.total} steps{renewed}", style="bold"),
            Text(f"{_time(now - self.began)}{self._left(now)}", style="dim"),
        )
        steps = Table.grid(padding=(0, 2))
        steps.add_column(no_wrap=True, style="cyan")
        steps.add_column(no_wrap=True, justify="right", style="dim")
        steps.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        running = list(self.running.values())
        for step in running[:_MOST_SHOWN]:
            said = last_line(Path(step.logs[0])) if step.logs else ""
            steps.add_row(Text(step.title), _time(now - step.started), Text(said))
        if len(running) > _MOST_SHOWN:
            steps.add_row(Text(f"and {len(running) - _MOST_SHOWN} more"), "", "")
        return Group(head, steps)

    def _left(self, now: float) -> str:
        """A guess at the time left: steps still to do, each as long as those done on average."""
        if not self.done:
            return ""
        return f", about {_time((now - self.began) / self.done * (self.total - self.done))} left"


def _time(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"
