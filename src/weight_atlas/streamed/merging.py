"""The tables of a streamed model's parts put together, in the order in which one reading of all weights writes them."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.not_applicable import write_not_applicable
from weight_atlas.streamed.tables import ALWAYS, POSITION, STEPS
from weight_atlas.weights.histogram_table import histogram_parts_of, write_parts
from weight_atlas.weights.part_file import read_part_file
from weight_atlas.weights.profile_table import write_profiles

_UNWANTED = "the model is streamed, and its analyses did not ask for this as its weights passed by"


def in_order(paths: Sequence[Path]) -> pd.DataFrame | None:
    """The rows of small tables by their position, which is left out; None if there is none in any of them.

    NotApplicable for tables that were not asked for as the weights passed by.
    """
    rows = _positioned(paths)
    return None if rows is None else rows.drop(columns=POSITION)


def one_by_one(paths: Sequence[Path]) -> Iterator[pd.DataFrame]:
    """The rows of large tables by their position, which is left out: a frame each, with little of a table in memory."""
    for row in _merged(paths):
        yield row.drop(columns=POSITION)


def write_tables(
    found: Mapping[str, Sequence[Path]], wanted: Iterable[str], outputs: Mapping[str, Path], inventory: pd.DataFrame
) -> None:
    """Write the tables of a part, each from those of its stretches.

    found: paths of the latter by the table's name. wanted: steps of STEPS; other tables say that nobody asked for them.
    """
    steps = {ALWAYS, *wanted}
    for name, path in outputs.items():
        if STEPS[name] not in steps:
            write_not_applicable(path, _UNWANTED)
        elif not found[name]:
            write_table(path, pd.DataFrame({POSITION: pd.Series(dtype="int64")}))
        elif name == "histograms":
            write_parts(path, histogram_parts_of(_merged(found[name])))
        elif name == "profiles":
            write_profiles(path, _merged(found[name]), inventory)
        else:
            write_table(path, _positioned(found[name]))


def _positioned(paths: Sequence[Path]) -> pd.DataFrame | None:
    frames = [frame for frame in map(read_table, paths) if len(frame)]
    if not frames:
        return None
    return pd.concat(frames, ignore_index=True).sort_values(POSITION, kind="stable", ignore_index=True)


def _merged(paths: Sequence[Path]) -> Iterator[pd.DataFrame]:
    return heapq.merge(*map(_rows, paths), key=lambda row: row[POSITION].iloc[0])


def _rows(path: Path) -> Iterator[pd.DataFrame]:
    for part in read_part_file(path):
        yield from (part.iloc[number : number + 1] for number in range(len(part)))
