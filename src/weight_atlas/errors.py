"""The exceptions that users see as a message rather than as a traceback, and others turned into such a message."""

import difflib
import errno
import math
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What a terminal would obey or hide rather than show: control characters, marks of direction, lone surrogates.
CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_LONGEST_LINE = 2000  # characters


class AtlasError(Exception):
    """Something a user can mend.

    what: what is wrong; where: the file, key or tensor concerned; remedy: what to do about it.
    A step that ends with this error prints these three and exits with code 1. Names from files are part of them, so
    that the message shows control characters as escapes, keeps its own form and cuts endless lines.
    """

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None):
        self.what, self.where, self.remedy = what, where, remedy
        lines = [
            _shown(what),
            *([f"  where: {_shown(where)}"] if where is not None else []),
            *([f"  what to do: {_shown(remedy)}"] if remedy else []),
        ]
        super().__init__("\n".join(lines))

    def __reduce__(self):
        # Exceptions cross process pools by their arguments; keyword-only ones need this.
        return _rebuild, (type(self), self.what, self.where, self.remedy)


class NotApplicable(AtlasError):
    """An analysis that this model, or this text, gives no occasion for: no fault, and nothing that must be mended.

    A step that ends with it leaves each of its outputs as an artifact that holds `what` as the reason, and succeeds;
    reading such an artifact raises it again, so that what builds on it does not apply either.
    """


def unknown_name(what: str, name: str, known: Collection[str], where: object) -> AtlasError:
    """The error for a name that nothing has; the remedy is the nearest of those that are known. what: of what kind."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    return AtlasError(f"unknown {what} {name!r}", where=where, remedy=remedy)


@contextmanager
def located(place: object) -> Iterator[None]:
    """Name the folder, file or key in errors raised here that say where in it they are, but not which one it is."""
    try:
        yield
    except AtlasError as error:
        if str(place) in str(error.where):
            raise
        where = place if error.where is None else f"{place}: {error.where}"
        raise type(error)(error.what, where=where, remedy=error.remedy) from error


def first_line(error: BaseException) -> str:
    """What an error says first: its first line, with the next one where that only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or isinstance(error, LookupError | AttributeError | TypeError):  # such a text alone says little
        lines[:1] = [": ".join([type(error).__name__, *lines[:1]])]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def _rebuild(kind: type[AtlasError], what: str, where: object, remedy: str | None) -> AtlasError:
    return kind(what, where=where, remedy=remedy)


def _shown(text: object) -> str:
    """A text as a terminal may show it; its further lines are indented, lest one passes for a part of the message."""
    first, *further = (_cut(line) for line in CONTROL.sub(_escaped, str(text)).split("\n"))
    return "\n".join([first, *(line if line.startswith("    ") or not line else f"    {line}" for line in further)])


def _escaped(match: re.Match) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _cut(line: str) -> str:
    left_out = len(line) - _LONGEST_LINE
    return line if left_out <= 0 else f"{line[:_LONGEST_LINE]} ... ({left_out} more characters)"


def not_finite(where: object) -> AtlasError:
    """The error for activations that are NaN or infinite; where: module or weight."""
    return AtlasError(
        "activations are not finite numbers",
        where=where,
        remedy="compute in float32 (dtype: float32), and look for NaN in the weight statistics",
    )


def finite(value: float, where: object) -> float:
    """The value itself; AtlasError where it is NaN or infinite.

    For maxima of activations: a NaN among them makes the maximum NaN.
    """
    if not math.isfinite(value):
        raise not_finite(where)
    return value


EXTRAS = {"datasets": "eval", "lm_eval": "eval"}


def missing_extra(error: ModuleNotFoundError) -> AtlasError | None:
    """The message for an import that an extra of this project would serve; None for any other."""
    package = (error.name or "").split(".")[0]
    if (extra := EXTRAS.get(package)) is None:
        return None
    return AtlasError(
        f"the package {package} is not installed",
        remedy=f'install it with the extra {extra}: pip install "weight-atlas[{extra}]", '
        f'or in a clone pip install -c requirements.lock -e ".[{extra}]"',
    )


def of_library(error: BaseException) -> AtlasError | None:
    """The message for what a library raises over somebody's data, though it is no error of it by its type.

    That memory ran out, and that the tokenizers library gave up on a text, as over a pattern that would take for ever.
    None for all else.
    """
    if isinstance(error, MemoryError):
        return AtlasError(
            f"memory ran out: {first_line(error)[:200]}",
            remedy="give the step more memory, or look at what it read: a damaged file may claim more than it holds",
        )
    if type(error).__name__ == "PanicException":  # of Rust; it is no Exception, and there is no name to import
        return AtlasError(
            f"the tokenizer gave up on a text: {first_line(error)[:200]}",
            where="tokenizer.json",
            remedy="its patterns do not suit this text: take the model's own tokenizer, or another text",
        )
    return None


MOST_AT_ONCE = 1 << 30  # bytes; the largest tokenizers and indexes have some tens of millions


def refuse_huge(path: Path, most: int = MOST_AT_ONCE) -> None:
    """AtlasError for a file that is read as a whole, and is larger than anything of its kind; a missing one passes."""
    with suppress(OSError):
        if (size := Path(path).stat().st_size) > most:
            raise AtlasError(
                f"the file has {size:,} bytes, more than any of its kind",
                where=path,
                remedy="look at what it is; it is not read, since that would take as much memory",
            )


_AGAIN = "then run the same command again: it goes on where it stopped"
_EXPLAINED = {
    errno.ENOSPC: ("no space left on the device", f"free some room there, {_AGAIN}"),
    errno.EDQUOT: ("no space left in your quota", f"free some room or have the quota raised, {_AGAIN}"),
    errno.EROFS: ("the file system is read-only", f"take a place that can be written, {_AGAIN}"),
    errno.EACCES: ("permission denied", f"give this user the right to the file and its folder, {_AGAIN}"),
    errno.EPERM: ("operation not permitted", f"give this user the right to the file and its folder, {_AGAIN}"),
    errno.ENAMETOOLONG: ("the name of the file is too long", "take shorter names or a folder higher up"),
    errno.EISDIR: ("a folder has the name of the file", "take another name, or move the folder"),
    errno.ENOTDIR: ("a file has the name of a folder above it", "take another place, or move that file"),
    errno.EEXIST: ("a file has the name of a folder above it", "take another place, or move that file"),
    errno.EIO: ("the device does not read or write", f"look at the disk or the network share, {_AGAIN}"),
}


def explained(error: OSError, path: Path | None = None) -> AtlasError | None:
    """The message for an error of the file system, None for one that is of another kind.

    path: the file in question, where the error does not name one.
    """
    if error.errno not in _EXPLAINED:
        return None
    what, remedy = _EXPLAINED[error.errno]
    return AtlasError(what, where=path or error.filename, remedy=remedy)
