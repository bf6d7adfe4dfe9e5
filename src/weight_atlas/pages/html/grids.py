"""The maps of a model: where each tensor, head and expert has its cell, layers across and roles down.

A grid is {"rows": [{label, group, tall}], "columns": [...], "cells": {row, column, id, ...}}: lists of equal length, a
cell each. Of several cells at one place (the experts of a layer) the page makes a strip.
"""

from collections.abc import Iterable
from typing import Any

import pandas as pd

BEFORE, AFTER = "in", "out"
# Roles in the order in which a forward pass meets them, by the part of the model that they make; others come last.
PARTS: dict[str, tuple[str, ...]] = {
    "embedding": ("W_E", "W_pos", "W_type"),
    "attention": (
        "W_Q_a", "W_Q_b", "W_KV_a", "W_KV_b", "W_Q", "W_K", "W_V", "sinks", "W_attn_gate", "W_O", "ssm_in", "ssm_gate",
        "ssm_conv", "ssm_Q", "ssm_K", "ssm_V", "ssm_beta", "ssm_B", "ssm_C", "ssm_dt_a", "ssm_dt", "ssm_A", "ssm_D",
        "ssm_mix", "ssm_out",
    ),
    "MLP": ("W_router", "W_gate", "W_up", "W_down"),
    "head": ("W_dense", "W_U"),
}  # fmt: skip
PART_OF = {role: part for part, roles in PARTS.items() for role in roles}
ORDER = {role: place for place, role in enumerate(role for roles in PARTS.values() for role in roles)}
# Norms before (-1) and after (1) the roles of their part.
NORMS = {
    "embedding": ("embedding", 1), "pre_attention": ("attention", -1), "post_attention": ("attention", 1),
    "pre_mlp": ("MLP", -1), "post_mlp": ("MLP", 1), "post_dense": ("MLP", 1), "post_experts": ("MLP", 1),
    "final": ("head", -1), "transform": ("head", -1),
}  # fmt: skip
GROUPS = (*PARTS, "other")


def tensor_grid(inventory: pd.DataFrame) -> dict[str, Any]:
    """The grid of a model's tensors, one stack below the other; tensors outside layers lie before and after them.

    Cells have also `label`, what a tensor is in a few words. inventory: the table tensor_inventory.
    """
    own = inventory[["id", "role", "of_role", "component", "stack", "layer", "expert", "rows", "cols"]].astype(object)
    own = own.where(own.notna(), None)
    records = own.to_dict("records")
    by_row: dict[tuple, list[int]] = {}
    for number, each in enumerate(records):
        by_row.setdefault(_row_key(each), []).append(number)
    stacks = list(dict.fromkeys(each["stack"] for each in records))
    keys = sorted(by_row, key=lambda key: (stacks.index(key[0]), *key[1:]))
    layers = sorted({int(each["layer"]) for each in records if each["layer"] is not None})
    outside = [_side(each) for each in records if each["layer"] is None]
    columns = [BEFORE] * (BEFORE in outside) + [str(layer) for layer in layers] + [AFTER] * (AFTER in outside)
    place = {name: number for number, name in enumerate(columns)}
    rows = [
        {
            "label": _row_label(key),
            "group": GROUPS[key[1]] if len(stacks) < 2 else f"{key[0]}: {GROUPS[key[1]]}",
            "tall": any(records[number]["cols"] is not None for number in by_row[key]),
        }
        for key in keys
    ]
    cells = [(row, number) for row, key in enumerate(keys) for number in by_row[key]]
    cells.sort(key=lambda cell: (cell[0], place[_column(records[cell[1]])], records[cell[1]]["expert"] or 0))
    chosen = [records[number] for _, number in cells]
    return {
        "kind": "tensor",
        "rows": rows,
        "columns": columns,
        "cells": {
            "row": [row for row, _ in cells],
            "column": [place[_column(each)] for each in chosen],
            "id": [each["id"] for each in chosen],
            "expert": [each["expert"] for each in chosen] if any(each["expert"] is not None for each in chosen) else [],
            "shape": [_shape(each) for each in chosen],
        },
    }


def _row_key(each: dict[str, Any]) -> tuple:
    """Stack, part, place within the part, and what tells rows of the same role apart."""
    role, of_role, component = each["role"], each["of_role"] or "", each["component"] or ""
    if "norm" in (role, of_role):
        part, side = NORMS.get(component, ("other", 0))
        return each["stack"], GROUPS.index(part), side, -1 if side < 0 else 99, "norm", component, role
    of = of_role if role == "bias" else role
    part = PART_OF.get(of, "other")
    return each["stack"], GROUPS.index(part), 0, ORDER.get(of, 98), component, role, of_role


def _row_label(key: tuple) -> str:
    if key[4] == "norm":
        label = f"{key[5].replace('_', ' ')} norm".strip()
        return label if key[6] == "norm" else f"{key[6]} of {label}"
    _, _, _, _, component, role, of_role = key
    label = f"bias of {of_role}" if role == "bias" and of_role else role
    return f"{label} · {component.replace('_', ' ')}" if component else label


def _side(each: dict[str, Any]) -> str:
    """Whether a tensor outside layers lies before or after them."""
    of_head = {each["role"], each["of_role"]} & set(PARTS["head"]) or each["component"] in ("final", "transform")
    return AFTER if of_head else BEFORE


def _column(each: dict[str, Any]) -> str:
    return _side(each) if each["layer"] is None else str(int(each["layer"]))


def _shape(each: dict[str, Any]) -> str:
    rows, cols = each["rows"], each["cols"]
    return f"{int(rows)}" if cols is None else f"{int(rows)} × {int(cols)}"


def numbered_grid(kind: str, tables: Iterable[pd.DataFrame]) -> dict[str, Any] | None:
    """The grid of heads or experts that tables with the columns stack, component, layer and `kind` name; None for none.

    kind: "head" or "expert", the column of their numbers. Cells have also `key`, by which rows of tables find them.
    """
    found = {key for table in tables for key in keys_of(table, kind)}
    if not found:
        return None
    several = len({(stack, component) for stack, component, _, _ in found}) > 1
    rows = sorted({(stack, component, number) for stack, component, _, number in found})
    columns = sorted({layer for _, _, layer, _ in found})
    place = {row: number for number, row in enumerate(rows)}
    cells = sorted(found, key=lambda key: (place[key[0], key[1], key[3]], key[2]))
    groups = [_where(stack, component) if several else f"{kind}s" for stack, component, _ in rows]
    return {
        "kind": kind,
        "rows": [
            {"label": f"{kind} {number}", "group": group, "tall": True}
            for (_, _, number), group in zip(rows, groups, strict=True)
        ],
        "columns": [str(layer) for layer in columns],
        "cells": {
            "row": [place[stack, component, number] for stack, component, _, number in cells],
            "column": [columns.index(layer) for _, _, layer, _ in cells],
            "id": [_name(kind, key, several) for key in cells],
            "shape": [],
            "expert": [],
        },
        "keys": cells,
    }


def _where(stack: str, component: str) -> str:
    return " ".join(filter(None, (stack, component)))


def _name(kind: str, key: tuple[str, str, int, int], several: bool) -> str:
    stack, component, layer, number = key
    where = f"{_where(stack, component)} " if several else ""
    return f"{where}layer {layer} {kind} {number}"


def keys_of(table: pd.DataFrame, kind: str) -> list[tuple[str, str, int, int]]:
    """(stack, component, layer, number) of each row of a table of heads or experts, as cells are known by.

    Tables of one stack or component leave these columns out; they are of the decoder's self-attention.
    """
    stack = _texts(table["stack"]) if "stack" in table else pd.Series("decoder", index=table.index)
    component = _texts(table["component"]) if "component" in table else pd.Series("", index=table.index)
    return list(zip(stack, component, table["layer"].astype(int), table[kind].astype(int), strict=True))


def _texts(column: pd.Series) -> pd.Series:
    """A column of texts, "" where one is missing."""
    return column.astype(object).where(column.notna(), "").astype(str)
