"""What a page is drawn from beside the products of analyses."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from weight_atlas.artifacts import read_json, read_table
from weight_atlas.not_applicable import reason_of


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of a model that the map and its cards read; None for one that has not been made."""

    checkpoint: Path | None = None
    tensor_inventory: Path | None = None
    value_histogram: Path | None = None
    weight_profile: Path | None = None
    singular_values: Path | None = None
    attention_kernel: Path | None = None


def changes_against(model: str, tables: Iterable[Path], summaries: Iterable[Path]) -> dict[str, pd.DataFrame]:
    """Comparisons of a model with others, by the other's name, with the column `id` of the model's own tensors.

    tables, summaries: of the comparisons, `table` and `summary` of the step, in the same order.
    """
    found = {}
    for table, summary in zip(tables, summaries, strict=True):
        if reason_of(table) is not None:
            continue
        sides = read_json(summary)
        side, other = ("a", sides["b"]) if sides["a"] == model else ("b", sides["a"])
        frame = read_table(table)
        found[other] = frame.assign(id=frame[f"id_{side}"])
    return found
