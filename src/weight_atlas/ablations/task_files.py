"""The local files behind a task: what shows, without reading all of it, that its questions or answers may have changed.

Light: the workflow reads it for every task and job.
"""

import glob
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from weight_atlas.digest_records import digest_of
from weight_atlas.file_states import states_of
from weight_atlas.paths import user_path

# Definitions that may speak of files elsewhere; only these are parsed, since a folder may hold thousands.
ELSEWHERE = re.compile(r"^\s*[\"']?(include|data_files|data_dir|dataset_path|!function)\b", re.MULTILINE)


@cache
def task_state(folder: str | None, mirror: str | None) -> str | None:
    """A digest of the states of a task's own files; None for a task without.

    folder: of definitions; its files count, and those that its definitions name. mirror: of copies of data sets.
    """
    if folder is None and mirror is None:
        return None
    files = {file for place in (folder, mirror) if place for file in _files(user_path(place))}
    files |= {file for path in sorted(files) if path.suffix == ".yaml" for file in _named(path, mirror, set())}
    return digest_of(states_of(sorted(files)))


def _files(place: Path) -> Iterator[Path]:
    """All files below a folder; not what Python and version control leave there."""
    for path in place.rglob("*"):
        if path.is_file() and not {"__pycache__", ".git"} & set(path.parts):
            yield path


def _named(path: Path, mirror: str | None, seen: set[Path]) -> Iterator[Path]:
    """Files outside that a definition names: an include, data files and folders; all that can be found.

    seen: definitions already read, since two may include each other, which the step then says.
    """
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    text = path.read_text(encoding="utf-8", errors="replace")
    if not ELSEWHERE.search(text):
        return
    try:
        settings = yaml.load(text, Loader=_Tolerant)
    except yaml.YAMLError:
        return  # the step says so
    settings = settings if isinstance(settings, dict) else {}
    for include in _texts(settings.get("include")):
        included = path.parent / include
        if included.is_file():
            yield included
            yield from _named(included, mirror, seen)
    keywords = settings.get("dataset_kwargs")
    keywords = keywords if isinstance(keywords, dict) else {}
    folders = [Path(base) for base in (mirror or ".",)]
    bases = [*_texts(keywords.get("data_dir")), *_texts(settings.get("dataset_path"))]
    for pattern in [*_texts(keywords.get("data_files")), *bases]:
        for base in [*folders, *(folder / each for folder in folders for each in bases)]:
            for match in glob.glob(str(base / pattern), recursive=True):  # noqa: PTH207 (it takes absolute patterns)
                yield from _files(Path(match)) if Path(match).is_dir() else [Path(match)]


def _texts(value: Any) -> list[str]:
    """The texts in a text, or in lists and mappings of them."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part)]


class _Tolerant(yaml.SafeLoader):
    """Reads the harness's definitions without the functions that they name."""


_Tolerant.add_multi_constructor("!", lambda loader, suffix, node: None)
