"""What a command prints: tables, findings by grade, and texts without control characters of terminals."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from weight_atlas.command.engine import Failure
from weight_atlas.command.results import Extract, Result, Shown, null_of
from weight_atlas.errors import CONTROL

STYLES = {"critical": "bold red", "notable": "yellow", "info": "cyan"}
_MOST_PLACES = 3


class _Screen(Console):
    """A console whose reader may leave: that ends the process in one way, whatever was being printed."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, error: bool = False) -> Console:
    """Standard output, or standard error; without colour where it is no terminal."""
    return _Screen(file=sys.stderr if error else sys.stdout, highlight=False)


def plain(text: object) -> str:
    """A text without control characters of terminals."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def written(value: object) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else plain(value)


def print_table(title: str, table: Any) -> None:
    """A DataFrame on the terminal; texts of others cannot be taken for markup or control it."""
    shown = Table(title=Text(plain(title)), title_justify="left")
    numbers = [table[name].dtype.kind in "iuf" for name in table.columns]
    for name, number in zip(table.columns, numbers, strict=True):
        shown.add_column(Text(plain(name)), justify="right" if number else "left", overflow="fold")
    for row in table.itertuples(index=False):
        cells = zip(table.columns, row, strict=True)
        shown.add_row(*(Text(repr(value) if name == "token" else written(value)) for name, value in cells))
    console().print(shown)


def print_extract(found: Extract, screen: Console | None = None, *, least: int = 2, ranked: str = "") -> None:
    """Some columns of a table, as many as the screen has room for, and so many at least; the file has all.

    ranked: the column that orders the rows.
    """
    screen = screen or console()
    cells = {column: [_cell(row.get(column)) for row in found.rows] for column in found.columns}
    # Names of tensors are long, and what all of them begin with says nothing.
    if (first := found.columns[0]) in ("id", "id_a", "tensor"):
        cells[first] = _short([row.get(first) for row in found.rows])
    widths = _widths(found, cells, screen.width, least)
    table = Table(title=Text(found.title, style="bold"), title_justify="left", header_style="bold")
    for column, width in widths.items():
        style = "bold" if column == ranked else "dim" if _title(column, found) == "by chance" else None
        align: Literal["right", "left"] = "right" if _is_number(found, column) else "left"
        table.add_column(Text(_title(column, found)), justify=align, overflow="fold", style=style, width=width)
    for row in zip(*(cells[column] for column in widths), strict=True):
        table.add_row(*map(Text, row))
    screen.print(table)
    left_out = ", ".join(column for column in found.columns if column not in widths)
    screen.print(Text(plain(f"{found.file}{left_out and f': also {left_out}'}"), style="dim"), soft_wrap=True)


_NARROW = 14  # characters that a column of names is broken into where there is no room for more


def _widths(found: Extract, cells: Mapping[str, Sequence[str]], room: int, least: int) -> dict[str, int]:
    """The width of each of the first columns that the screen has room for, and of so many at least.

    Each has what it needs: numbers whole, words of its title whole, names broken. What is left goes to the first ones.
    """
    widths: dict[str, int] = {}
    for column in found.columns:
        longest = max(map(cell_len, cells[column]), default=0)
        names = 0 if _is_number(found, column) else _NARROW
        need = max([*map(cell_len, _title(column, found).split()), min(longest, names) if names else longest])
        if len(widths) >= least and sum(widths.values()) + need + 3 * len(widths) + 4 > room:
            break
        widths[column] = need
    if f"{(last := [*widths][-1])}_null" in found.columns and len(widths) > least:
        del widths[last]  # a number is not shown without what chance gives
    left = room - sum(widths.values()) - 3 * len(widths) - 1
    for column in widths:
        more = min(max(left, 0), max(map(cell_len, [_title(column, found), *cells[column]])) - widths[column])
        widths[column] += more
        left -= more
    return widths


def _is_number(found: Extract, column: str) -> bool:
    return all(isinstance(row.get(column), int | float | None) for row in found.rows)


def _title(column: str, found: Extract) -> str:
    """A column's name as the head of a column, broken between its words."""
    null = column.endswith("_null") and column.removesuffix("_null") in found.columns
    return "by chance" if null else plain(column).replace("_", " ")


def print_lines(lines: Iterable[str]) -> None:
    """Lines of text."""
    for line in lines:
        print(plain(line))


def print_failures(failures: Iterable[Failure]) -> None:
    """What went wrong, each once, on standard error."""
    screen = console(error=True)
    for failure in failures:
        screen.print(Text("error: ", style="bold red") + Text(plain_lines(failure.message)), soft_wrap=True)
        if failure.step:
            screen.print(Text(f"  step: {plain(failure.step)}"), soft_wrap=True)
        for log in failure.logs[:1]:
            screen.print(Text(f"  log: {plain(log)}"), soft_wrap=True)


def plain_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(plain(line) for line in text.split("\n"))


def print_result(result: Result, *, quiet: bool = False, screen: Console | None = None) -> None:
    """One model: headline, findings the gravest first, and the worst of each table beside its null."""
    screen = screen or console()
    screen.print(_headline(result), soft_wrap=True)
    for finding in result.findings:
        _print_finding(screen, finding)
    if result.judged and not result.findings and not result.missing:
        screen.print(Text("  no findings: nothing here is unusual", style="green"))
    for analysis, reason in result.skipped.items():
        screen.print(Text(f"  {analysis} does not apply: {plain(reason)}", style="dim"), soft_wrap=True)
    for analysis in result.missing:
        screen.print(Text(f"  {analysis} is missing: it failed", style="red"))
    if not quiet:
        for table in result.tables:
            screen.print()
            _print_ranked(screen, table)
        for found in result.extracts:
            screen.print()
            print_extract(found, screen)
        screen.print()


def _headline(result: Result) -> Text:
    line = Text(plain(result.name), style="bold")
    about = [plain(result.source)] if result.source != result.name else []
    if result.facts.get("revision"):
        about.append(f"commit {plain(result.facts['revision'])[:12]}")
    if "bytes" in result.facts:
        about.append(size(result.facts["bytes"]))
    line.append(f"  {', '.join(about)}", style="dim")
    counts = [(grade, sum(each["grade"] == grade for each in result.findings)) for grade in STYLES]
    for grade, number in counts:
        if number:
            line.append(f"  {number} {grade}", style=STYLES[grade])
    return line


def size(number: int) -> str:
    """Bytes in a unit that people read."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number} bytes"


def _print_finding(screen: Console, finding: dict[str, Any]) -> None:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=8)
    grid.add_column(overflow="fold")  # names of tensors are longer than narrow screens, and are not cut
    text = Text(plain(finding["text"]))
    if finding.get("remedy"):
        text.append(f"\n{plain(finding['remedy'])}", style="dim")
    grid.add_row(Text(finding["grade"], style=STYLES[finding["grade"]]), text)
    screen.print(grid)


def _print_ranked(screen: Console, shown: Shown) -> None:
    metric = shown.metric
    way = {"lower": "lowest", "both": "farthest from its null"}.get(metric.direction, "highest")
    null = {metric.null: f"{metric.column}_null"} if isinstance(metric.null, str) else {}
    columns = [null.get(column, column) for column in shown.columns]
    rows = [{null.get(column, column): value for column, value in row.items()} for row in shown.rows]
    title = f"{metric.title}: {way} {len(shown.rows)} of {shown.of}"
    least = columns.index(metric.column) + 1 + bool(null)
    found = Extract(title, f"{shown.file}{_null_note(shown)}", columns, rows)
    print_extract(found, screen, least=least, ranked=metric.column)


def _short(names: Sequence[object]) -> list[str]:
    """Names of tensors without what all of them begin with, up to a dot, and without .weight."""
    texts = [_cell(name) for name in names]
    parts = [text.removesuffix(".weight").split(".") for text in texts]
    fewest = min(map(len, parts), default=1) - 1
    # The number of a layer stays, and so does the word before it.
    kept = (n for n in range(fewest) if len({each[n] for each in parts}) > 1 or parts[0][n + 1].isdigit())
    begin = next(kept, fewest)
    return [".".join(each[begin if len(texts) > 1 else 0 :]) for each in parts]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return written(value)


def _null_note(shown: Shown) -> str:
    """What the numbers are to be read beside, where it is one number for all rows."""
    null = None if isinstance(shown.metric.null, str) else null_of(shown.metric, {})
    return "" if null is None else f"; by chance {null:g}"
