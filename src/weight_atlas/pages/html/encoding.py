"""How data travels with a page: arrays as base64, values as scripts that a page from the disk can load."""

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.artifacts import plain, write_text

# Whole numbers up to this one are exact in 32 bits.
WHOLE = 1 << 24
# Letters of a chunk that is read as it is, by people too.
PLAIN = 2000
LEVEL = 6  # of zlib: 9 would take a quarter of all the time of a large page, for .7 % of its size


def packed(values: np.ndarray) -> dict[str, str]:
    """An array of numbers as {"type": "f4" or "f8", "data": base64}, little-endian, NaN where one is missing.

    In 32 bits, 7 digits, unless a whole number among them needs 64.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    wide = (
        bool((np.abs(finite) >= WHOLE).any())
        if (finite == np.round(finite)).all()
        else bool((np.abs(finite) > np.finfo(np.float32).max).any())
    )
    kind = "f8" if wide else "f4"
    with np.errstate(over="ignore", under="ignore"):
        data = values.astype(f"<{kind}").tobytes()
    return {"type": kind, "data": base64.b64encode(data).decode()}


def json_text(value: object) -> str:
    """JSON that is the same text wherever it stands: in a script, in an element of a page, in any encoding."""
    text = json.dumps(plain(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def write_chunk(folder: Path, key: str, value: object) -> None:
    """Write a value as the script folder/key.js, which hands it to the page that loads it: large ones compressed."""
    text = json_text(value)
    if len(text) > PLAIN:
        deflated = base64.b64encode(zlib.compress(text.encode("ascii"), LEVEL)).decode()
        text = f'"{deflated}",true'
    write_text(folder / f"{key}.js", f"atlas.take({json_text(key)},{text});\n")


def columns_of(frame: pd.DataFrame) -> list[list[Any]]:
    """The columns of a table as lists for JSON: whole numbers whole, missing ones None, lists as texts."""
    return [_cells(frame[name]) for name in frame.columns]


def _cells(column: pd.Series) -> list[Any]:
    if pd.api.types.is_bool_dtype(column.dtype):
        return [None if missing else bool(value) for value, missing in zip(column, column.isna(), strict=True)]
    if pd.api.types.is_numeric_dtype(column.dtype):
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        whole = bool((numbers[np.isfinite(numbers)] % 1 == 0).all())
        return [_number(value, whole) for value in numbers.tolist()]
    return [_text(value) for value in column]


def _number(value: float, whole: bool) -> Any:
    if value != value:
        return None
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    return int(value) if whole else value


def _text(value: object) -> Any:
    if isinstance(value, np.ndarray | list | tuple):
        return json.dumps(plain(value), ensure_ascii=False)
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
        return None
    return value if isinstance(value, bool | int | float | str) else plain(value)


def in_chunks(sizes: Iterable[int], most: int) -> list[int]:
    """The chunk that each of several things goes into, in their order: a chunk holds at most `most`, or one thing."""
    found, chunk, filled = [], 0, 0
    for size in sizes:
        if filled and filled + size > most:
            chunk, filled = chunk + 1, 0
        found.append(chunk)
        filled += size
    return found


def grouped(items: Mapping[str, Any], chunks: Iterable[int]) -> dict[int, dict[str, Any]]:
    """What each chunk holds, by the items' names."""
    found: dict[int, dict[str, Any]] = {}
    for (name, item), chunk in zip(items.items(), chunks, strict=True):
        found.setdefault(chunk, {})[name] = item
    return found
