"""Models in a table beside the configuration: a row for each, a column for each key. Light: the workflow uses it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weight_atlas.errors import AtlasError, refuse_huge
from weight_atlas.paths import user_path
from weight_atlas.settings.configuration import Configuration
from weight_atlas.settings.messages import checked
from weight_atlas.settings.series import Checkpoints
from weight_atlas.workflow.typed import typed

NAME, BETWEEN = "name", ","
_HOW = f"the first line names the columns: {NAME}, source, and other keys of models, with tabs between them"
_LONGEST = 10_000  # characters of a cell
Row = tuple[int, dict[str, str]]


def with_table(configuration: Configuration, where: str) -> Configuration:
    """The configuration with the models of its table beside those that it lists itself.

    A cell is read as a value on the command line is; an empty one leaves its key out. Items of a list are separated by
    commas, and a key of a section is a column of its own: super_weights.spike_threshold. Empty lines and lines that
    begin with # are skipped. AtlasError with the line's number for the first thing wrong.
    """
    if configuration.models_table is None:
        return configuration
    path = user_path(configuration.models_table)
    places: dict[str, str] = {}
    entries: dict[str, Any] = {}
    for line, cells in _rows(path):
        place, name = f"{path}, line {line}", cells.pop(NAME)
        if name in entries or name in configuration.models:
            other = places.get(name, where)
            raise AtlasError(
                f"the model {name!r} is there already: {other}", where=place, remedy="rename one of the two"
            )
        places[name], entries[name] = place, _entry(cells)
    models = dict(configuration.models)
    for name, entry in typed({"models": entries})["models"].items():
        models |= checked(Checkpoints, {"models": {name: entry}}, places[name]).models
    return configuration.model_copy(update={"models": models})


def _rows(path: Path) -> Iterator[Row]:
    """The rows of a table: the number of the line, and the cells that are not empty by their columns."""
    refuse_huge(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise AtlasError(
            f"cannot read the table of models: {error.strerror}", where=path, remedy="check `models_table`"
        ) from error
    except UnicodeDecodeError as error:
        raise AtlasError("not UTF-8", where=path, remedy="save the table as UTF-8, with tabs") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip() and line[0] != "#"]
    split = [line.split("\t") for _, line in numbered]
    if not split:
        raise AtlasError("the table of models is empty", where=path, remedy=_HOW)
    columns = [column.strip() for column in split[0]]
    _check_columns(columns, f"{path}, line {numbered[0][0]}")
    for (number, _), cells in zip(numbered[1:], split[1:], strict=True):
        if (longest := max(map(len, cells))) > _LONGEST:
            what = f"a cell of {longest} characters, more than {_LONGEST}"
            raise AtlasError(what, where=f"{path}, line {number}", remedy=_HOW)
        if len(cells) > len(columns):
            what = f"{len(cells)} cells for {len(columns)} columns"
            raise AtlasError(what, where=f"{path}, line {number}", remedy="remove tabs that are too many")
        filled = {column: cell.strip() for column, cell in zip(columns, cells, strict=False) if cell.strip()}
        if NAME not in filled:
            raise AtlasError("a model without a name", where=f"{path}, line {number}", remedy=f"fill in {NAME!r}")
        yield number, filled


def _check_columns(columns: list[str], place: str) -> None:
    if NAME not in columns:
        raise AtlasError(f"the table of models has no column {NAME!r}", where=place, remedy=_HOW)
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise AtlasError(f"the column {twice[0]!r} stands twice", where=place, remedy="keep one of the two")


def _entry(cells: Mapping[str, str]) -> dict[str, Any]:
    """The entry of a model, from the texts in the cells of a row."""
    entry: dict[str, Any] = {}
    for column, cell in cells.items():
        section, dot, key = column.partition(".")
        place = entry.setdefault(section, {}) if dot else entry
        if not isinstance(place, dict):
            place = entry[section] = {}
        place[key if dot else column] = cell
    if isinstance(entry.get("analyses"), str):
        entry["analyses"] = [item.strip() for item in entry["analyses"].split(BETWEEN)]
    return entry
