"""Which tensors of two models belong together: by role, layer and expert, whatever they are called and stored as."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from weight_atlas.families.roles import Role

# Where a tensor stands in a model. Layouts and names do not enter: they are how a file spells it.
KEY = ["stack", "layer", "expert", "role", "of_role", "component"]
# Rows of these are tokens, which a resized vocabulary moves; and so are the elements of their biases.
VOCABULARY = (Role.W_E.value, Role.W_U.value)
NO_INDEX = -1
PAIR_COLUMNS = [*KEY, "id_a", "id_b", "rows", "cols", "dtype_a", "dtype_b", "n_heads", "renamed", "by_token"]
ALONE_COLUMNS = ["side", "id", *KEY, "rows", "cols", "dtype", "reason"]


def paired(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tensors of two inventories that belong together, and those that stand alone or cannot be compared.

    Pairs: PAIR_COLUMNS, in the order of the first inventory; rows and cols are those of a; by_token: whether rows are
    to be matched by token. Others: ALONE_COLUMNS, with side a, b, or both where the shapes differ. A tensor that is
    tied to another on both sides is that other, and in neither; stored constants are left out.
    """
    one, other = _own(a), _own(b)
    tied = {_key(row) for row in one.itertuples() if row.tied_to} & {
        _key(row) for row in other.itertuples() if row.tied_to
    }
    first, second = (_by_key(table, tied) for table in (one, other))
    pairs: list[dict[str, Any]] = []
    alone: list[dict[str, Any]] = []
    for key, rows in first.items():
        for row, twin in _matched(rows, second.get(key, [])):
            _sort_out(row, twin, pairs, alone)
    for key, rows in second.items():
        if key not in first:
            alone += [_alone("b", row, "only in b") for row in rows]
    return _table(pairs, PAIR_COLUMNS), _table(alone, ALONE_COLUMNS)


def _own(inventory: pd.DataFrame) -> pd.DataFrame:
    constants = (inventory["parameters"] == 0) & (inventory["bytes"] > 0)
    return inventory[~constants]


def _key(row: Any) -> tuple:
    key = tuple(NO_INDEX if pd.isna(value) else value for value in (getattr(row, name) for name in KEY))
    # Without a role, a name is all that tells a tensor.
    return (*key, row.id) if row.role == Role.OTHER.value else key


def _by_key(table: pd.DataFrame, tied: set[tuple]) -> dict[tuple, list]:
    found: dict[tuple, list] = {}
    for row in table.itertuples(index=False):
        if (key := _key(row)) not in tied:
            found.setdefault(key, []).append(row)
    return found


def _matched(rows: list, others: list) -> Iterator[tuple[Any, Any]]:
    """Pairs of rows of one key, (row, None) and (None, row): of the same name, else in their order."""
    by_name = {row.id: row for row in others}
    named = {row.id for row in rows} & by_name.keys()
    left, right = ([row for row in side if row.id not in named] for side in (rows, others))
    ordered = iter(right) if len(left) == len(right) else iter(())
    for row in rows:
        yield row, by_name[row.id] if row.id in named else next(ordered, None)
    for row in right if len(left) != len(right) else ():
        yield None, row


def _sort_out(row: Any, twin: Any, pairs: list, alone: list) -> None:
    if row is None or twin is None:
        alone.append(_alone("b", twin, "only in b") if row is None else _alone("a", row, "only in a"))
        return
    unreadable = [
        f"{side} cannot be read: {each.note}" for side, each in (("a", row), ("b", twin)) if not each.readable
    ]
    by_token = row.role in VOCABULARY or (row.role == Role.BIAS.value and row.of_role in VOCABULARY)
    by_token = by_token and not row.component
    shapes = [(_size(each.rows), _size(each.cols)) for each in (row, twin)]
    fits = shapes[0] == shapes[1] or (by_token and shapes[0][1] == shapes[1][1])
    if unreadable or not fits:
        sizes = " and ".join("x".join(str(size) for size in shape if size is not None) for shape in shapes)
        alone.append(_alone("both", row, unreadable[0] if unreadable else f"the shapes differ: {sizes}"))
        return
    pairs.append(
        {
            **{name: getattr(row, name) for name in KEY},
            "id_a": row.id,
            "id_b": twin.id,
            "rows": row.rows,
            "cols": row.cols,
            "dtype_a": row.dtype,
            "dtype_b": twin.dtype,
            "n_heads": row.n_heads if _size(row.n_heads) == _size(twin.n_heads) else None,
            "renamed": row.id != twin.id,
            "by_token": by_token,
        }
    )


def _size(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _alone(side: str, row: Any, reason: str) -> dict[str, Any]:
    kept = {name: getattr(row, name) for name in [*KEY, "id", "rows", "cols", "dtype"]}
    return {"side": side, **kept, "reason": reason}


def _table(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    whole = [name for name in ("layer", "expert", "rows", "cols", "n_heads") if name in columns]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(whole, "Int64"))
