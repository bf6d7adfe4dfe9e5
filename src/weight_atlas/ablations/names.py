"""Names of tasks and corpora that the configuration's sections refer to. Light: the workflow reads it."""

import difflib
from collections.abc import Iterable

from weight_atlas.errors import AtlasError

BUNDLED = "bundled:"
BUNDLED_TASKS = ("order", "documents", "phrase")


def known_names(chosen: Iterable[str] | None, known: Iterable[str], where: str) -> list[str]:
    """The chosen names, all of the known ones for None; an AtlasError for one that is not known."""
    known = list(known)
    if chosen is None:
        return known
    chosen = list(chosen)
    for name in chosen:
        if name not in known:
            raise _unknown(name, known, where)
    return chosen


def bundled_task(name: str | None) -> str | None:
    """The bundled task that a task's `name` means, None for any other; an AtlasError for one that does not exist."""
    if name is None or not name.startswith(BUNDLED):
        return None
    task = name.removeprefix(BUNDLED)
    if task not in BUNDLED_TASKS:
        raise _unknown(task, list(BUNDLED_TASKS), "the bundled tasks")
    return task


def _unknown(name: str, known: list[str], where: str) -> AtlasError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    return AtlasError(f"unknown name {name!r}", where=where, remedy=remedy)
