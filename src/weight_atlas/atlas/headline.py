"""The lines at the top of a model's page: what somebody wants to know first."""

from collections.abc import Callable, Iterator

import pandas as pd

Tables = dict[str, object]


def headline(tables: dict[str, Tables]) -> list[tuple[str, str]]:
    """Rows (what, value) from the tables of each analysis, by analysis and file name; absent analyses say nothing."""
    return [row for name, lines in LINES.items() if tables.get(name) for row in lines(tables[name])]


def _frames(tables: Tables) -> list[pd.DataFrame]:
    return [table for table in tables.values() if isinstance(table, pd.DataFrame)]


LINES: dict[str, Callable[[Tables], Iterator[tuple[str, str]]]] = {}
