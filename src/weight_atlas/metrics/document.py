"""The tables of docs/metrics.md, written from the registry: `python -m weight_atlas.metrics.document docs/metrics.md`.

Each stands between `<!-- table NAME -->` and `<!-- end -->`; what is around them is written by hand.
"""

import re
import sys
from pathlib import Path

from weight_atlas.errors import AtlasError
from weight_atlas.metrics.metric import UNITS
from weight_atlas.metrics.registry import FOLDER, PARTS, read_entries
from weight_atlas.metrics.schema import Entries, Entry, Variable

BLOCK = re.compile(r"<!-- table (\S+) -->\n.*?<!-- end -->", re.S)
# What an entry's column, null and texts make of its row.
Row = tuple[str, str, str, str]


def document(text: str) -> str:
    """The page with its tables as the registry has them; an AtlasError for one that is unknown, twice or not there."""
    tables = {name: each for part in PARTS for name, each in read_entries(FOLDER / f"{part}.yaml").items()}
    placed = BLOCK.findall(text)
    for name in (*placed, *tables):
        if placed.count(name) != 1 or name not in tables:
            raise AtlasError(
                f"table {name}: in the page {placed.count(name)} times, in the registry {int(name in tables)}",
                remedy=f"one `<!-- table {name} -->` and `<!-- end -->` for each table of the registry",
            )
    return BLOCK.sub(lambda found: f"<!-- table {found[1]} -->\n{_block(tables[found[1]], tables)}\n<!-- end -->", text)


def _block(table: Entries, tables: dict[str, Entries]) -> str:
    """File, row and columns of a table."""
    keys = [f"`{column}`" for column in table.keys.values()]
    named = f" Keys: {', '.join(keys)}." if keys else ""
    like = f" It has the columns of `{tables[table.like].file}`{_without(table)}" if table.like else ""
    rows = [_row(column, entry) for column, entry in table.metrics.items()]
    rows += [(f"`{column}`", words, "", "") for column, words in {**table.words, **table.lists}.items()]
    if like:
        like += ", and:" if rows else "."
    return "\n".join([f"`{table.file}`: a row for {table.rows}.{named}{like}", *(["", *_lines(rows)] if rows else [])])


def _without(table: Entries) -> str:
    return f" without {', '.join(f'`{column}`' for column in table.without)}" if table.without else ""


def _row(column: str, entry: Entry) -> Row:
    """One row for an entry, also where it stands for several columns."""
    names = {name: Variable(f"{{{name}}}", f"{{{name}}}") for name in entry.each}
    values = [f"{name}: {', '.join(map(str, options))}" for name, options in entry.each.items()]
    unit = UNITS[entry.unit] if not entry.units else ""
    title = entry.title.format(**names) + (f" ({unit})" if unit else "")
    when = f" ({entry.when})" if entry.when else ""
    null = f"`{entry.null}`" if isinstance(entry.null, str) else _number(entry.null)
    definition = f"{title}: {entry.definition.format(**names)}{when}"
    return "; ".join([f"`{column}`", *values]), definition, null, entry.reading.format(**names)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _lines(rows: list[Row]) -> list[str]:
    """A Markdown table, without the columns that are empty in every row."""
    heads = ("column", "definition", "null", "how to read it")
    kept = [place for place in range(len(heads)) if place < 2 or any(row[place] for row in rows)]
    cells = [heads, *rows]
    lines = ["| " + " | ".join(_cell(row[place]) for place in kept) + " |" for row in cells]
    return [lines[0], "|" + "---|" * len(kept), *lines[1:]]


def _cell(text: str) -> str:
    """A bar would end the cell, and a bare `<` can begin HTML."""
    return re.sub(r"(?<!\\)\|", r"\\|", text).replace(" <", " \\<")


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(document(page.read_text(encoding="utf-8")), encoding="utf-8")
