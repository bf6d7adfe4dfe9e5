"""One number of a product: what it is called, how it is measured, and what it is to be read beside."""

import math
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

# What a unit adds to a label; "" where a title says all.
UNITS = {
    "count": "", "number": "", "share": "", "ratio": "", "probability": "", "correlation": "", "rank": "",
    "dimensions": "", "layers": "layers", "bits": "bits", "bytes": "bytes", "decibels": "dB", "nats": "nats",
    "nats per token": "nats per token", "nats per unit": "nats per token, word, byte or item", "weight": "",
    "weight^2": "", "activation": "", "logit": "logits", "log10": "", "perplexity": "", "tokens": "",
}  # fmt: skip
# Units of whole numbers.
COUNTED = {"count", "rank", "bytes", "tokens"}
Level = Literal[
    "model", "stack", "role", "phase", "layer", "tensor", "head", "expert", "neuron", "channel", "component", "weight",
    "value", "token", "vector", "document", "corpus", "prompt", "window", "request", "item", "task", "variant",
    "target",
]  # fmt: skip
Direction = Literal["higher", "lower", "both", "none"]
Scale = Literal["linear", "log"]


@dataclass(frozen=True)
class Metric:
    """One numeric column of a table, or one number of a JSON file.

    id: of the table and the column, "effective_rank.erank". title: short, for a heading or an axis. unit: one of UNITS.
    level: what has one such number. null: what a random matrix, a random weight or no effect would give: a column of
    the same table, or a number. interval: the columns of its lower and upper bound; error: the column of its standard
    error. direction: which values are the unusual ones, the ones to look at first; "both" means far from the null.
    scale: of an axis or a colour. format: for a number in a sentence. definition: one sentence with the formula.
    reading: how to read it. when: which products have it, "" if all. trusted: a condition on a row of the table, as of
    DataFrame.query, under which its value enters a mean or a median; "" if always.
    """

    id: str
    column: str
    title: str
    unit: str
    level: Level
    null: str | float | None = None
    interval: tuple[str, str] | None = None
    error: str | None = None
    direction: Direction = "none"
    scale: Scale = "linear"
    format: str = ".4g"
    definition: str = ""
    reading: str = ""
    when: str = ""
    trusted: str = ""

    @property
    def label(self) -> str:
        """Title and unit, for an axis or a column's heading: "rise of the loss (nats per token)"."""
        return f"{self.title} ({UNITS[self.unit]})" if UNITS[self.unit] else self.title

    def value_in(self, content: dict[str, Any]) -> Any:
        """The value in the content of a JSON file, where dots in the column's name lead inwards."""
        return reduce(getitem, self.column.split("."), content)

    def written(self, value: float) -> str:
        """A value as a sentence has it, without its unit; "missing" where there is none."""
        return "missing" if value is None or math.isnan(value) else format(value, self.format)

    def said(self, value: float) -> str:
        """A value as a sentence has it, with its unit: "0.0123 nats per token"."""
        return f"{self.written(value)} {UNITS[self.unit]}".rstrip()

    def null_of(self, rows: "pd.DataFrame") -> "pd.Series | None":
        """The null of each row of the metric's table; None for a metric without one."""
        import pandas as pd

        if self.null is None or isinstance(self.null, str):
            return None if self.null is None else rows[self.null].astype(float)
        return pd.Series(float(self.null), index=rows.index)

    def ranked(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """Rows of the metric's table, the most unusual first; rows without a value are last, equal ones stay in order.

        By direction: the largest values, the smallest, or those farthest from the null, as factors on a log scale.
        """
        import numpy as np

        values = rows[self.column].astype(float)
        if self.direction == "both":
            null = self.null_of(rows)
            null = values.median() if null is None else null
            values = np.log(values / null).abs() if self.scale == "log" else (values - null).abs()
        order = values.sort_values(ascending=self.direction == "lower", kind="stable", na_position="last")
        return rows if self.direction == "none" else rows.loc[order.index]
