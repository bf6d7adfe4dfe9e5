"""Artifacts that say why there is nothing in them: what a step leaves that does not apply to a model or a text.

They are files like any other, of the type that their name says, so that the workflow goes on and a run with nothing to
do stays one. `read_table` and `read_json` raise NotApplicable on them.
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.artifacts import (
    NOT_APPLICABLE,
    atomic,
    read_array,
    read_json,
    read_table,
    write_array,
    write_json,
    write_table,
    write_text,
)
from weight_atlas.errors import NotApplicable

TEXT = "Not applicable: "


def write_not_applicable(path: Path, reason: str) -> None:
    """Write the artifact of a path's type that holds the reason; a path without a suffix is an empty folder."""
    match path.suffix:
        case ".json":
            write_json(path, {NOT_APPLICABLE: reason})
        case ".npy":
            write_array(path, np.array(reason))
        case ".csv" | ".parquet" | ".jsonl":
            write_table(path, pd.DataFrame({NOT_APPLICABLE: [reason]}))
        case ".png":
            _write_picture(path, reason)
        case "":
            path.mkdir(parents=True, exist_ok=True)
        case _:
            write_text(path, TEXT + " ".join(reason.split()) + "\n")


def _write_picture(path: Path, reason: str) -> None:
    # Not in the style of the figures: every step can end here, and none but those that draw depend on that style.
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(6, 1.6))
    lines = textwrap.fill(TEXT + reason, 80)
    figure.text(0.5, 0.5, lines, ha="center", va="center", fontsize=10, color="#555555", parse_math=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None, NOT_APPLICABLE: reason})


@contextmanager
def left_without(paths: Iterable[Path]) -> Iterator[None]:
    """Write these as artifacts that hold the reason, where what is done here does not apply to a model.

    For the part of a step's outputs that a model may lack while the others are there.
    """
    try:
        yield
    except NotApplicable as error:
        print(f"not applicable: {error}", flush=True)
        for path in paths:
            write_not_applicable(path, error.what)


def reason_of(path: Path) -> str | None:
    """Why there is nothing in an artifact; None for one that holds something, and for folders."""
    path = Path(path)
    if path.suffix == ".png":
        return _of_picture(path)
    try:
        match path.suffix:
            case ".json":
                read_json(path)
            case ".csv" | ".jsonl" if NOT_APPLICABLE in _first_line(path):
                read_table(path)
            case ".parquet" if _column_names(path) == [NOT_APPLICABLE]:
                read_table(path)
            case ".npy":
                read_array(path)
            case ".md" if (line := _first_line(path)).startswith(TEXT):
                return line.removeprefix(TEXT).strip()
    except NotApplicable as error:
        return error.what
    return None


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline()


def _of_picture(path: Path) -> str | None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return picture.info.get(NOT_APPLICABLE)
    except UnidentifiedImageError:
        return None


def _column_names(path: Path) -> list[str]:
    from pyarrow import parquet

    return parquet.read_schema(path).names


def if_applicable(path: Path, read: Callable[[Path], Any] = read_table) -> Any | None:
    """Read an artifact; None for one that says why there is nothing in it, and the log says so."""
    try:
        return read(path)
    except NotApplicable as error:
        print(f"left out: {path}: {error.what}", flush=True)
        return None


def applicable(paths: Iterable[Path], read: Callable[[Path], Any] = read_table) -> dict[Path, Any]:
    """Read the artifacts of several models or parts that hold something; NotApplicable if none of them does."""
    paths = list(paths)
    found = {path: content for path in paths if (content := if_applicable(path, read)) is not None}
    if paths and not found:
        raise NotApplicable(together(reason_of(path) for path in paths))
    return found


def together(reasons: Iterable[str | None]) -> str:
    """Several reasons as one, each said once."""
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason))
