"""What a failure says: a step's own message out of its log, or Snakemake's without the lines that are about itself."""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from weight_atlas.errors import CONTROL, explained

_LAST_LINES = 15
_ABOUT_ITSELF = re.compile(r'^(  File ".*", line \d+.*|Traceback \(most recent call last\):|Full Traceback.*)$')
_HEAD = re.compile(r"^(?:(?:WorkflowError|RuleException|Error)(?: in (?:file|rule) .*)?:?\s*)+\n?")


def of_log(paths: Iterable[str | Path]) -> str | None:
    """The message that a step ended with: from its last `error:` on; of a log without one the last lines."""
    for path in paths:
        text = tail(Path(path), 1 << 16)
        if not text.strip():
            continue
        found = list(re.finditer(r"^error: ", text, flags=re.M))
        if found:
            return shown(text[found[-1].end() :].strip())
        return shown("\n".join(text.rstrip().splitlines()[-_LAST_LINES:]))
    return None


def of_snakemake(message: str) -> str:
    """Snakemake's message without where in its files it arose; what the file system refused as a step would say it."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        if f"[Errno {number}]" in message:
            return str(explained(OSError(number, os.strerror(number)), Path.cwd()))
    lines = [line for line in message.strip().splitlines() if not _ABOUT_ITSELF.match(line)]
    return shown(_HEAD.sub("", "\n".join(lines)).strip() or message.strip())


def tail(path: Path, most: int) -> str:
    """The end of a text file, at most so many bytes; "" for one that is not there."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def last_line(path: Path) -> str:
    """What a step said last; progress bars write their states one over the other."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", tail(path, 1 << 12)) if line.strip()]
    return shown(lines[-1]) if lines else ""


def shown(text: str) -> str:
    """A text without characters that a terminal would obey."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
