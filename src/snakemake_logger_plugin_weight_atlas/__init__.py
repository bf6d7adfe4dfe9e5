"""The live view of a run, for `snakemake --logger weight-atlas` and for the command weight-atlas.

On a terminal: how many steps are done, which run now and for how long, the last line of each one's log, and the time
that is left. Elsewhere a line for each step that ends. What failed is said once, in the step's own words.

Snakemake finds the plugin by this module's name, hands its settings over from the options --logger-weight-atlas-...,
and calls it with the events of its jobs.
"""

from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import Optional

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from snakemake_logger_plugin_weight_atlas.view import View

__all__ = ["LogHandler", "LogHandlerSettings"]


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options of the live view."""

    failures: Optional[Path] = field(  # noqa: UP045 - Snakemake makes its option of it
        default=None,
        metadata={"help": "File to write the messages of what failed to, as JSON lines, in place of the screen"},
    )
    silent: bool = field(default=False, metadata={"help": "Show failures only"})


class LogHandler(LogHandlerBase):
    """Hands the events of a run to its view."""

    def __post_init__(self) -> None:
        settings = self.settings if isinstance(self.settings, LogHandlerSettings) else LogHandlerSettings()
        self.view = View(failures=settings.failures, silent=settings.silent, dry_run=self.common_settings.dryrun)

    def emit(self, record: LogRecord) -> None:
        """Show what happened; what goes wrong in showing it ends no run."""
        try:
            self.view.see(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Leave the screen as it was."""
        self.view.end()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return True

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False
