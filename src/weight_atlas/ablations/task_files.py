"""The local files behind a task: what shows, without reading all of it, that its questions or answers may have changed.

Light: the workflow reads it for every task and job.
"""

import glob
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from weight_atlas.digest_records import digest_of
from weight_atlas.errors import AtlasError, refuse_huge
from weight_atlas.file_states import states_of
from weight_atlas.paths import user_path
from weight_atlas.yaml_file import check_size

# Definitions that may speak of files elsewhere; only these are parsed, since a folder may hold thousands.
ELSEWHERE = re.compile(r"^\s*[\"']?(include|data_files|data_dir|dataset_path|!function)\b", re.MULTILINE)
_MOST_FILES = 100_000  # of a folder or a pattern


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
    for path in islice(place.rglob("*"), _MOST_FILES):
        if _is_file(path) and not {"__pycache__", ".git"} & set(path.parts):
            yield path


def _named(path: Path, mirror: str | None, seen: set[Path]) -> Iterator[Path]:
    """Files outside that a definition names: an include, data files and folders; all that can be found.

    seen: definitions already read, since two may include each other, which the step then says.
    """
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    try:
        refuse_huge(path)
        text = path.read_text(encoding="utf-8", errors="replace")
        if not ELSEWHERE.search(text):
            return
        node = yaml.compose(text, Loader=_Tolerant)
        check_size(node, path)
        settings = _Tolerant("").construct_document(node) if node else None
    except (AtlasError, yaml.YAMLError, ValueError, TypeError, RecursionError):
        return  # the step says so
    settings = settings if isinstance(settings, dict) else {}
    for include in _texts(settings.get("include")):
        included = path.parent / include
        if _is_file(included):
            yield included
            yield from _named(included, mirror, seen)
    keywords = settings.get("dataset_kwargs")
    keywords = keywords if isinstance(keywords, dict) else {}
    folders = [Path(base) for base in (mirror or ".",)]
    bases = [*_texts(keywords.get("data_dir")), *_texts(settings.get("dataset_path"))]
    for pattern in [*_texts(keywords.get("data_files")), *bases]:
        for base in [*folders, *(folder / each for folder in folders for each in bases)]:
            # Of a pattern that means a whole disk not all is looked at, since that would take for ever.
            for match in islice(glob.iglob(str(base / pattern), recursive=True), _MOST_FILES):  # noqa: PTH207
                yield from _files(Path(match)) if Path(match).is_dir() else [Path(match)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _texts(value: Any) -> list[str]:
    """The texts in a text, or in lists and mappings of them."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part)]


class _Tolerant(yaml.SafeLoader):
    """Reads the harness's definitions without the functions that they name."""


_Tolerant.add_multi_constructor("!", lambda loader, suffix, node: None)
