"""The one place that writes artifacts: parquet, csv, json, jsonl, npy and text, atomic and deterministic.

A file appears under its name only when it is complete (see atomic_files). Nothing written here carries a time, a host
name or an unsorted key, so that two runs write the same bytes. What is read here is held to the digest that was
recorded of it, if one was.
"""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.atomic_files import atomic, write_text
from weight_atlas.digest_records import check
from weight_atlas.errors import AtlasError, NotApplicable, first_line, refuse_huge

# The one column or key of an artifact that says why there is nothing in it.
NOT_APPLICABLE = "not_applicable"
# How parquet files are written and read: pages carry checksums, which also a file taken elsewhere is held to.
PARQUET: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
CHECKED: dict[str, Any] = {"page_checksum_verification": True}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table in the format of its suffix: .parquet, .csv or .jsonl (one object a row).

    The index is not written. csv writes floats in their shortest exact form, lists as JSON, and both missing values and
    empty strings as empty cells, which it cannot tell apart.
    """
    with atomic(path) as temporary:
        match Path(path).suffix:
            case ".parquet":
                table.to_parquet(temporary, index=False, engine="pyarrow", **PARQUET)
            case ".csv":
                temporary.write_text(_csv(table), encoding="utf-8", newline="")
            case ".jsonl":
                temporary.write_text(
                    "".join(_json(row, sort_keys=False) + "\n" for row in table.to_dict("records")), encoding="utf-8"
                )
            case suffix:
                raise ValueError(f"no table format for {suffix!r}: use .parquet, .csv or .jsonl")


def write_frames(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    """Write a .parquet table that comes in frames of the same columns, of which one at a time is in memory."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    with atomic(path) as temporary:
        writer = None
        try:
            for frame in frames:
                table = pa.Table.from_pandas(frame, preserve_index=False)
                writer = writer or ParquetWriter(temporary, table.schema, **PARQUET)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()


def _csv(table: pd.DataFrame) -> str:
    """A table as csv with LF line ends, in which every string that holds CR, LF, a comma or a quote is quoted."""
    cells = {name: table[name].map(_cell) for name in table.columns if table[name].dtype == object}
    table = table.assign(**cells)
    # A cell is quoted for the characters of the line end alone, so a lone CR would stand bare beside ends of LF and
    # split its row. What lies between quotes are the odd parts, since a quote within is written twice.
    parts = table.to_csv(index=False, lineterminator="\r\n").split('"')
    return '"'.join(part if place % 2 else part.replace("\r\n", "\n") for place, part in enumerate(parts))


def _cell(value: object) -> object:
    return _json(value) if isinstance(value, list) else value


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that write_table wrote.

    AtlasError for one that is missing or damaged, NotApplicable for one that says why there is nothing in it.
    """
    if (suffix := Path(path).suffix) not in (".parquet", ".csv", ".jsonl"):
        raise ValueError(f"no table format for {suffix!r}: use .parquet, .csv or .jsonl")
    with reading(path):
        table = _read(path)
    if list(table.columns) == [NOT_APPLICABLE]:
        raise NotApplicable(str(table[NOT_APPLICABLE].iloc[0]), where=path)
    return table


def read_frames(path: Path) -> Iterator[pd.DataFrame]:
    """Read a .parquet table as read_table does, in frames of which one at a time is in memory: its row groups."""
    from pyarrow.parquet import ParquetFile

    with reading(path), ParquetFile(path, **CHECKED) as file:
        if file.schema_arrow.names == [NOT_APPLICABLE]:
            raise NotApplicable(str(file.read()[NOT_APPLICABLE][0]), where=path)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group).to_pandas()
        if not file.num_row_groups:
            yield file.schema_arrow.empty_table().to_pandas()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say in an AtlasError which table is missing or damaged, should reading it here fail."""
    try:
        check(path)
        yield
    except FileNotFoundError as error:
        raise AtlasError("a table is missing", where=path, remedy="make it first: snakemake PATH") from error
    except (ValueError, OSError, LookupError, TypeError, EOFError, SyntaxError, TokenError) as error:
        # What pyarrow, pandas, numpy and the decoding of texts raise for damaged files is of these kinds.
        raise AtlasError(
            f"a table cannot be read: {first_line(error)}",
            where=path,
            remedy="make it again: remove the file and run the same command",
        ) from error


def _read(path: Path) -> pd.DataFrame:
    match Path(path).suffix:
        case ".parquet":
            return pd.read_parquet(path, **CHECKED)
        case ".csv":
            # A token may read "NA" or "null": only an empty cell is a missing value.
            return pd.read_csv(path, keep_default_na=False, na_values=[""])
        case _:
            return pd.read_json(path, lines=True, orient="records", dtype=False, precise_float=True)


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys and an indent of two; NaN and infinities become null."""
    write_text(path, _json(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is an AtlasError, one that says why nothing is in it NotApplicable."""
    refuse_huge(path)
    try:
        check(path)
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AtlasError("a file is missing", where=path) from error
    except OSError as error:
        raise AtlasError(f"cannot read: {error.strerror}", where=path, remedy="check path and permissions") from error
    except (ValueError, RecursionError) as error:  # nested without end, or a number of thousands of digits
        raise AtlasError(f"not valid JSON: {error}", where=path, remedy="restore or remove the file") from error
    if isinstance(content, dict) and list(content) == [NOT_APPLICABLE]:
        raise NotApplicable(str(content[NOT_APPLICABLE]), where=path)
    return content


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy."""
    with atomic(path) as temporary:
        np.save(temporary, array, allow_pickle=False)


def read_array(path: Path) -> np.ndarray:
    """Read a .npy file; AtlasError for a missing or damaged one, NotApplicable for one that says why it is empty."""
    with reading(path):
        # Mapped, a file that claims more than it holds is refused before memory is taken for it.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(mapped, np.ndarray):  # an archive of several
        raise AtlasError("not one array but several", where=path, remedy="save one array: numpy.save")
    array = np.array(mapped)
    if array.dtype.kind == "U":
        raise NotApplicable(str(array), where=path)
    return array


def _json(value: object, *, indent: int | None = None, sort_keys: bool = True) -> str:
    return json.dumps(plain(value), indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)


def plain(value: object) -> object:
    """Reduce numpy and pandas values to what JSON has; NaN, NA and infinities become None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | bool):
        return value
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")
