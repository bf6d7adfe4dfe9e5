"""One table of the results: where it lies, what a row is, and its columns."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from weight_atlas.metrics.metric import Metric

# What a column can say of where a row's numbers come from. A table gives them by these names, whatever its columns are
# called, so that a reader finds the layer of every table.
Key = Literal[
    "model", "corpus", "ablation", "variant", "task", "subtask", "metric", "filter", "kind", "factor", "draw", "target",
    "stack", "role", "layer", "component", "expert", "head", "kv_head", "circuit", "phase", "category", "dtype",
    "id", "tensor", "piece", "row", "column", "neuron", "channel", "candidate", "iteration", "matrix", "position",
    "from_layer", "from_component", "from_head",
    "token", "token_id", "prompt", "window", "document", "group", "request", "item", "class", "probability", "rank",
]  # fmt: skip


@dataclass(frozen=True)
class Page:
    """What a model's page shows of a table.

    These columns; only rows in which one of `only` is true, if given; of too many the most unusual by the metric `by`.
    """

    columns: tuple[str, ...]
    only: tuple[str, ...] = ()
    by: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of the results.

    name: "effective_rank", "effective_rank.trends": the step, and which of its tables. file: below the results folder,
    with the workflow's wildcards. rows: what one row is. keys: by the names of Key, the columns that say where a row's
    numbers come from. words: columns that are no numbers, and lists: columns of several numbers, with what they hold.
    page: None where a page shows it by the rules for all. part: of the atlas, the file of the registry.
    """

    name: str
    file: str
    rows: str
    keys: dict[str, str]
    metrics: tuple[Metric, ...]
    words: dict[str, str] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    page: Page | None = None
    part: str = ""

    @cached_property
    def by_column(self) -> dict[str, Metric]:
        """The metrics by their columns."""
        return {metric.column: metric for metric in self.metrics}

    @property
    def step(self) -> str:
        """The step, and the folder of the results."""
        return self.file.split("/")[0]

    @property
    def columns(self) -> set[str]:
        """Every column."""
        return {*self.keys.values(), *self.by_column, *self.words, *self.lists}

    @property
    def map(self) -> tuple[str, str] | None:
        """The columns of a map's two sides, if the table's numbers can be drawn as one: role or head, and layer."""
        side = next((self.keys[key] for key in ("head", "role") if key in self.keys), None)
        return (side, self.keys["layer"]) if side and "layer" in self.keys else None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What the path of such a file looks like, below the results folder."""
        parts = re.split(r"\{\w+\}", self.file)
        return re.compile("[^/]+".join(map(re.escape, parts)))
