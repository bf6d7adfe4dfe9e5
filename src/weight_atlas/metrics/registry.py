"""The registry read from its files: every table of the results with its metrics."""

import difflib
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from weight_atlas.errors import AtlasError
from weight_atlas.metrics.metric import Metric
from weight_atlas.metrics.table import Page, Table

if TYPE_CHECKING:
    from weight_atlas.metrics.schema import Entries

FOLDER = Path(__file__).parent
# The files of the registry, in the order of docs/metrics.md.
PARTS = (
    "checkpoints",
    "weights",
    "quantization",
    "spectra",
    "embeddings",
    "circuits",
    "tokens",
    "token_weights",
    "super_weights",
    "streamed",
    "vocabulary",
    "ablations",
    "comparison",
    "series",
    "findings",
)


def of(table: str) -> Table:
    """A table by its name: "effective_rank", "effective_rank.trends"; an AtlasError for one that is not there."""
    return tables()[_known(table, tables(), "table")]


def metric(name: str) -> Metric:
    """A metric by its table and column: "effective_rank.erank", "effective_rank.trends.slope"."""
    return _metrics()[_known(name, _metrics(), "metric")]


def table_of(path: str) -> Table | None:
    """The table that a file is, by its path below the results folder; None for one that is not registered."""
    found = [table for table in tables().values() if table.pattern.fullmatch(path)]
    # `{model}.steps.csv` is no `{model}.csv`: the pattern that says more is meant.
    return max(found, key=lambda table: len(table.pattern.pattern), default=None)


@cache
def tables() -> MappingProxyType[str, Table]:
    """All tables by name, in the order of the registry."""
    found: dict[str, Table] = {}
    for part in PARTS:
        found |= read_tables(FOLDER / f"{part}.yaml", found)
    return MappingProxyType(found)


@cache
def _metrics() -> dict[str, Metric]:
    return {metric.id: metric for table in tables().values() for metric in table.metrics}


def _known(name: str, names: Iterable[str], what: str) -> str:
    names = list(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    raise AtlasError(
        f"no {what} is called {name}", remedy=f"did you mean {near[0]}?" if near else "see docs/metrics.md"
    )


def read_tables(path: Path, known: dict[str, Table] | None = None) -> dict[str, Table]:
    """The tables of one file of the registry; known: those of the files before it.

    Raises AtlasError, with the table and the key, for what is not as schema.py says, for a name that is given twice,
    and for a null, a bound or a column of a page that is no column of its table or is measured otherwise.
    """
    made: dict[str, Table] = {}
    for name, entries in read_entries(path).items():
        made[name] = _table(name, entries, {**(known or {}), **made}, path)
    return made


def read_entries(path: Path) -> "dict[str, Entries]":
    """What one file of the registry says of each table, as it stands there."""
    from pydantic import ValidationError

    from weight_atlas.metrics.schema import Entries

    made = {}
    for name, content in _yaml(path).items():
        try:
            made[name] = Entries.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, (name, *first["loc"])))
            raise AtlasError(f"{key}: {first['msg']}", where=path, remedy="see metrics/schema.py") from error
    return made


def _yaml(path: Path) -> dict:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Refuses a key that stands twice in one mapping, which YAML would take the last of."""

        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise AtlasError(f"the key {twice[0]} stands twice", where=f"{path}, line {node.start_mark.line + 1}")
            return super().construct_mapping(node, deep)

    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def _table(name: str, entries: "Entries", known: dict[str, Table], path: Path) -> Table:
    base = None
    if entries.like is not None:
        base = known[_known(entries.like, known, "table")]
    left = set(entries.without)
    keys = {key: column for key, column in base.keys.items() if column not in left} if base else {}
    words = {key: words for key, words in base.words.items() if key not in left} if base else {}
    lists = {key: words for key, words in base.lists.items() if key not in left} if base else {}
    metrics = {each.column: _moved(each, name) for each in base.metrics if each.column not in left} if base else {}
    for column, entry in entries.metrics.items():
        for each in entry.metrics(name, entries.level, column, metrics):
            metrics[each.column] = each
    table = Table(
        name=name,
        file=entries.file,
        rows=entries.rows,
        keys={**keys, **{str(key): column for key, column in entries.keys.items()}},
        metrics=tuple(metrics.values()),
        words={**words, **entries.words},
        lists={**lists, **entries.lists},
        page=Page(tuple(shown.columns), tuple(shown.only), shown.by) if (shown := entries.page) else None,
        part=path.stem,
    )
    _check(table, left - base.columns if base else left, path)
    return table


def _moved(metric: Metric, table: str) -> Metric:
    """The same metric in another table."""
    return replace(metric, id=f"{table}.{metric.column}")


def _check(table: Table, without: set[str], path: Path) -> None:
    """Raise AtlasError where a table names a column that it has not, one twice, or beside another one's unit."""
    named = [*table.keys.values(), *table.by_column, *table.words, *table.lists]
    if twice := sorted({column for column in named if named.count(column) > 1}):
        raise AtlasError(f"{table.name}: {twice[0]} stands twice", where=path, remedy="a column is one thing")
    shown = (*table.page.columns, *table.page.only) if table.page else ()
    ranked = {table.page.by} - {None, *table.by_column} if table.page else set()
    beside = [(each, bound) for each in table.metrics for bound in _columns_beside(each)]
    missing = {*shown, *(bound for _, bound in beside)} - table.columns
    if missing | without | ranked:
        column = sorted(map(str, missing | without | ranked))[0]
        raise AtlasError(
            f"{table.name} has no column {column}",
            where=path,
            remedy="name one that it has, as a metric where it is ranked",
        )
    for each, bound in beside:
        if bound not in table.by_column or table.by_column[bound].unit != each.unit:
            raise AtlasError(f"{each.id} and {bound} differ in unit", where=path, remedy="compare what is alike")


def _columns_beside(metric: Metric) -> list[str]:
    """The columns that a metric is read beside: its null, its bounds, its error."""
    beside = (metric.null, metric.error, *(metric.interval or ()))
    return [column for column in beside if isinstance(column, str)]
