"""Texts of others, such as tokens and names of tensors, in Markdown: shown whole, and never taken for Markdown or HTML.

A text that would lose something (spaces at its ends, line ends, control and direction characters) is shown as Python
writes it, in quotes; one that would be taken for markup is shown as code; all others stand as they are.
"""

import re

import pandas as pd

# What begins emphasis, code, HTML, entities, strikethrough, mathematics and headings; an underscore after a letter or
# digit does not. A backslash would take the character after it along.
_MARKUP = re.compile(r"[`*<>&~$#\\]|(?<![A-Za-z0-9_])_+")
_LINK = re.compile(r"\](?=[(\[:])|://|www\.|@")


def inline(text: str) -> str:
    """Markdown that renders as exactly this text, within a line."""
    if text != text.strip() or "  " in text or not text.isprintable():
        return _code(repr(text))
    if _LINK.search(text) or (_MARKUP.search(text) and " " not in text):
        return _code(text)
    return _MARKUP.sub(lambda found: "".join(f"\\{character}" for character in found[0]), text)


def _code(text: str) -> str:
    """A code span, in more backticks than the text has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def cell(value: object) -> object:
    """A cell of a table: texts so that they cannot end the cell, other values as they are."""
    # In a table a pipe needs its backslash in code as well.
    return inline(value).replace("|", "\\|") if isinstance(value, str) else value


def table(frame: pd.DataFrame, *, written: str = "", **formats: object) -> str:
    """A DataFrame as a Markdown table; written: a column that holds Markdown; formats: for DataFrame.to_markdown."""
    frame = frame.astype(object).apply(lambda column: column if column.name == written else column.map(cell))
    # As objects, whole numbers stay whole beside columns of floats; mapping makes numbers of them again.
    return frame.astype(object).rename(columns=cell).to_markdown(index=False, **formats)
