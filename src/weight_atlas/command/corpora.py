"""Texts and tasks as they are named on a command line, written to the project."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weight_atlas.command.project import Project
from weight_atlas.command.requested import plain_name
from weight_atlas.errors import AtlasError
from weight_atlas.tokens.sources import KINDS

# Data sets of the hub that people call by a short name.
KNOWN: dict[str, dict[str, Any]] = {
    "wikitext-2": {"source": "hf:Salesforce/wikitext", "name": "wikitext-2-raw-v1", "split": "test"},
    "wikitext-103": {"source": "hf:Salesforce/wikitext", "name": "wikitext-103-raw-v1", "split": "test"},
    "python-docs": {"source": "bundled:python-docs", "split": "test"},
}


def corpus_named(project: Project, text: str) -> str:
    """Add a corpus to the project and return its name: one that it has, wikitext-2, hf:data/set, or paths.

    AtlasError for what is neither.
    """
    known = project.document.get("corpora") or {}
    if text in known:
        return text
    entry: dict[str, Any] | None = KNOWN.get(text) or KNOWN.get(text.removesuffix("-raw-v1"))
    name = plain_name(text.removeprefix("hf:"))
    if entry is None and text.startswith(("hf:", "bundled:")):
        entry = {"source": text}
    elif entry is None and (Path(text).exists() or any(letter in text for letter in "*?[")):
        path = text if Path(text).is_absolute() or project.is_here else Path(text).absolute().as_posix()
        entry, name = {"source": path}, plain_name(Path(text).stem or text)
    if entry is None:
        remedy = f"use {', '.join(KNOWN)}, hf:organisation/data-set, or a file or pattern of {', '.join(KINDS)}"
        raise AtlasError("no such text", where=text, remedy=remedy)
    if not known:  # the corpus that there is by itself stays the first, which other analyses read
        project.set_entry("corpora", "python-docs", dict(KNOWN["python-docs"]))
    project.set_entry("corpora", name, dict(entry))
    return name


def tasks_named(project: Project, tasks: Iterable[str], limit: int | None) -> list[str]:
    """Add tasks to the project and return their names; limit: documents of each, at most."""
    names = []
    for task in tasks:
        name = plain_name(task.removeprefix("bundled:"))
        known = (project.document.get("tasks") or {}).get(name) or {}
        entry = {**known, **({"name": task} if task != name else {}), **({"limit": limit} if limit else {})}
        if entry != known or name not in (project.document.get("tasks") or {}):
            project.set_entry("tasks", name, entry)
        names.append(name)
    return names
