"""The sections of a page: of each analysis its caption, figures and tables, or in one line why there are none."""

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from weight_atlas.metrics import Metric, Table, table_of
from weight_atlas.not_applicable import if_applicable, reason_of
from weight_atlas.pages.excerpts import shown
from weight_atlas.pages.html.charts import charts_of, pictures
from weight_atlas.pages.html.encoding import columns_of, write_chunk
from weight_atlas.pages.page import Product, title_of

# Parts of the registry of metrics, in the order of reading, as headings.
PARTS = {
    "checkpoints": "What it is made of",
    "weights": "Distributions and sparsity",
    "quantization": "Quantization",
    "spectra": "Spectra and attention",
    "embeddings": "Embeddings and positions",
    "circuits": "Circuits",
    "tokens": "Tokens",
    "token_weights": "Token weights",
    "super_weights": "Super weights and experts",
    "vocabulary": "Vocabulary and cascade",
    "ablations": "What removal costs",
    "comparison": "Comparison",
    "series": "Over training",
    "": "More",
}
# Cells of a table that a page has at most; of longer ones the rows that are most unusual, or the first.
MOST_CELLS = 500_000
# Rows of a table, pairs of heads of a large model, of which only those that pages show are held, and where their number
# stands among the attributes of that part.
LONG, COUNT = 10_000_000, "rows"
# Kinds of charts that show single rows: of a table that is on the page in part only these are drawn.
OF_ROWS = ("bars", "points")


@dataclass
class Section:
    """One analysis on a page.

    charts: of charts.charts_of. tables: {key, title, rows, of, columns}: what to load, and how much of it there is.
    """

    id: str
    title: str
    part: str
    caption: Markup
    charts: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    not_applicable: str = ""
    missing: str = ""


def tables_in(paths: Iterable[Path], results: Path) -> dict[Path, pd.DataFrame]:
    """The tables among the outputs of analyses, without lists of numbers, which can be as large as the weights."""
    found = {}
    for path in paths:
        if path.suffix in (".csv", ".parquet") and path.is_file() and reason_of(path) is None:
            table = if_applicable(path, lambda path: _read(path, results))
            if table is not None:
                found[path] = table
    return found


def _read(path: Path, results: Path) -> pd.DataFrame:
    from weight_atlas.artifacts import CHECKED, read_frames, read_table, reading

    if path.suffix != ".parquet":
        return read_table(path)
    from pyarrow import parquet

    registered = table_of(path.relative_to(results).as_posix())
    lists = set(registered.lists) if registered else set()
    with reading(path):
        count = parquet.read_metadata(path).num_rows
        if count > LONG and registered and _by_itself(registered):
            return _longest(read_frames(path), registered, count)
        schema = parquet.read_schema(path)
        # Lists of texts, such as a neuron's tokens, are read; lists of numbers can be as large as the weights.
        read = [name for name in schema.names if name not in lists or "string" in str(schema.field(name).type)]
        return pd.read_parquet(path, columns=read, **CHECKED)


def _by_itself(registered: Table) -> bool:
    """Whether how much a row tells does not depend on other rows, as it does where the null is their median."""
    by = _telling(registered)
    return not registered.lists and (by is None or registered.by_column[by].direction in ("higher", "lower"))


def _longest(frames: Iterable[pd.DataFrame], registered: Table, count: int) -> pd.DataFrame:
    """The rows of a table that tell most, of frames of which one at a time is in memory, and the number of all."""
    told = pd.DataFrame()
    for frame in frames:
        told = _told(pd.concat([told, frame], ignore_index=True), registered)
    told.attrs[COUNT] = count
    return told


def section(product: Product, tables: dict[Path, pd.DataFrame], results: Path, folder: Path, page: Path) -> Section:
    """The section of a product; its tables become chunks in folder, and the figures that it shows are copied there.

    tables: of all products, by their paths; links are relative to the page's own folder.
    """
    own = {path: table for path, table in tables.items() if path.is_relative_to(results / product.name) and len(table)}
    registered = {path: table_of(path.relative_to(results).as_posix()) for path in own}
    part = part_of(product.name)
    up = "../" * len(page.parent.relative_to(results).parts)
    shown_first = sorted(registered.items(), key=lambda item: item[1] is None or item[1].page is None)
    of_page = [_table(path, own[path], known, results, folder) for path, known in shown_first]
    known = {
        each["key"]: (of, own[path]) for each, (path, of) in zip(of_page, shown_first, strict=True) if of is not None
    }
    rows = {each["key"]: {"rows": each["rows"], "of": each["of"]} for each in of_page}
    return Section(
        id=product.name,
        title=title_of(product.name),
        part=part if part in PARTS else "",
        caption=_caption(product.caption),
        charts=[
            {**chart, **rows[chart["key"]]}
            for chart in charts_of(product.name, known)
            if rows[chart["key"]]["rows"] == rows[chart["key"]]["of"] or chart["kind"] in OF_ROWS
        ],
        figures=[_copied(link, results, folder, page) for link in pictures(product.name, product.figures)],
        tables=of_page,
        files=[
            (link.removeprefix("../"), up + link.removeprefix("../"))
            for link in [*product.files, *product.figures, *product.more]
        ],
        not_applicable=product.not_applicable,
        missing=product.missing,
    )


def part_of(analysis: str) -> str:
    """The part of the registry that an analysis's tables are in, "" if it has none."""
    from weight_atlas.metrics import tables

    return next((table.part for table in tables().values() if table.step == analysis), "")


def _caption(text: str) -> Markup:
    """A caption's reStructuredText as HTML: of its markup code and emphasis."""
    parts = re.split(r"(``.+?``|(?<![\w*])\*[^\s*][^*]*\*(?![\w*]))", " ".join(text.split()), flags=re.S)
    return Markup("").join(_inline(part) for part in parts)


def _inline(part: str) -> Markup:
    if part.startswith("``") and part.endswith("``") and len(part) > 4:
        return Markup("<code>") + escape(part[2:-2]) + Markup("</code>")
    if part.startswith("*") and part.endswith("*") and len(part) > 2:
        return Markup("<em>") + escape(part[1:-1]) + Markup("</em>")
    return escape(part)


def _copied(link: str, results: Path, folder: Path, page: Path) -> dict[str, Any]:
    """Copy a figure beside the page, so that the atlas can be taken elsewhere; its place and size."""
    from PIL import Image

    file = link.removeprefix("../")
    copy = folder / "figures" / file.replace("/", "-")
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(results / file, copy)
    with Image.open(copy) as picture:
        width, height = picture.size
    name = Path(file).stem.replace("_", " ")
    return {"src": copy.relative_to(page.parent).as_posix(), "width": width, "height": height, "alt": name}


def _table(path: Path, table: pd.DataFrame, registered: Table | None, results: Path, folder: Path) -> dict[str, Any]:
    """Write a table's rows as a chunk, and say what it is; of one that is too long the rows that tell most."""
    rows = _told(table, registered)
    key = "tables/" + re.sub(r"[^A-Za-z0-9._-]", "-", path.relative_to(results).as_posix())
    excerpt = shown(table.head(0) if table.empty else table, registered)
    known = registered.by_column if registered else {}
    words = {**(registered.words if registered else {}), **(registered.lists if registered else {})}
    first = [
        str(column)
        for column in (excerpt[0] if excerpt else rows.iloc[:, :16]).columns
        if not _says_nothing(rows, column)
    ]
    columns = [
        {
            "name": str(column),
            **(_told_of(known[column]) if column in known else {}),
            **({"title": words[column]} if column in words else {}),
            **({} if str(column) in first else {"more": True}),
        }
        for column in rows.columns
    ]
    write_chunk(folder, key, {"columns": columns, "cells": columns_of(rows)})
    return {
        "key": key,
        "title": _title(path, results, registered),
        "about": _caption(f"a row for {registered.rows.replace('`', '``')}" if registered else ""),
        "rows": len(rows),
        "of": table.attrs.get(COUNT, len(table)),
        "file": path.relative_to(results).as_posix(),
    }


def _says_nothing(rows: pd.DataFrame, column: Any) -> bool:
    """Whether a column is empty throughout, or repeats the names of the tensors."""
    return bool(rows[column].isna().all()) or (
        column == "tensor" and "id" in rows and rows["id"].equals(rows["tensor"])
    )


def _told_of(metric: Metric) -> dict[str, Any]:
    about = {
        "label": metric.label if metric.label != metric.title else None,
        "scale": metric.scale if metric.scale != "linear" else None,
        "null": metric.null,
        "interval": metric.interval,
    }
    known = {key: value for key, value in about.items() if value is not None}
    return {"metric": metric.id, "title": metric.title, "format": metric.format, **known}


def _told(table: pd.DataFrame, registered: Table | None) -> pd.DataFrame:
    most = max(MOST_CELLS // max(len(table.columns), 1), 1)
    if len(table) <= most:
        return table
    by = _telling(registered) if registered else None
    if not registered or by is None or by not in table:
        return table.head(most)
    ranked = registered.by_column[by].ranked(table)
    return table.loc[table.index.isin(ranked.index[:most])]


def _telling(registered: Table) -> str | None:
    """The column by whose values the rows of a table tell most."""
    by = registered.page.by if registered.page else None
    return by or next((metric.column for metric in registered.metrics if metric.direction != "none"), None)


def _title(path: Path, results: Path, registered: Table | None) -> str:
    """What a table is called: its name in the registry, without the analysis's; what is not in it by its file."""
    if registered is None:
        return title_of(path.stem)
    step, _, name = registered.name.partition(".")
    of = path.relative_to(results).parts[2:] if registered.file.count("{") > 1 else ()
    return title_of(name or step) + (f" ({Path(of[-1]).stem})" if of else "")


def in_parts(sections: Sequence[Section]) -> list[tuple[str, str, list[Section]]]:
    """Sections under their headings: (part, heading, sections), in the order of reading.

    One without a table in the registry goes with the section before it.
    """
    for before, each in pairwise(sections):
        each.part = each.part or before.part
    return [
        (part or "more", heading, found)
        for part, heading in PARTS.items()
        if (found := [section for section in sections if section.part == part])
    ]
