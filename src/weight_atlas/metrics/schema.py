"""What the YAML files of the registry may hold, and what an entry stands for: one column, or several alike."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from weight_atlas.metrics.metric import COUNTED, UNITS, Direction, Level, Metric, Scale
from weight_atlas.metrics.table import Key


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Strict):
    """One metric of a table, or several alike: `n{share}` with each: {share: [50, 99]}.

    Every text may hold the variables of `each` in braces. Where a value is a metric of the same table, listed before,
    {x.words} is its title; where `each` maps a value to words, these are. units: by a value of `each`, where not all
    have the same.
    """

    title: str
    unit: str
    level: Level | None = None
    null: str | float | None = None
    interval: tuple[str, str] | None = None
    error: str | None = None
    direction: Direction = "none"
    scale: Scale = "linear"
    format: str | None = None
    definition: str = Field(min_length=1)
    reading: str = ""
    when: str = ""
    trusted: str = ""
    each: dict[str, list[str | int] | dict[str | int, str]] = {}
    units: dict[str, str] = {}

    @model_validator(mode="after")
    def _known_unit(self) -> "Entry":
        for unit in (self.unit, *self.units.values()):
            if unit not in UNITS:
                raise ValueError(f"unknown unit {unit!r}: one of {', '.join(UNITS)}")
        return self

    @model_validator(mode="after")
    def _far_from_what(self) -> "Entry":
        if self.direction == "both" and self.null is None:
            raise ValueError("direction `both` means far from the null: give one")
        return self

    def metrics(self, table: str, level: Level, column: str, known: dict[str, Metric]) -> Iterator[Metric]:
        """The metrics of this entry; column: its key; known: those of the table so far, by column."""
        for variables in _choices(self.each, known):
            name = column.format(**variables)
            unit = next((self.units[value] for value in variables.values() if value in self.units), self.unit)
            yield Metric(
                id=f"{table}.{name}",
                column=name,
                level=self.level or level,
                unit=unit,
                direction=self.direction,
                scale=self.scale,
                format=self.format or ("," if unit in COUNTED else ".4g"),
                null=self.null.format(**variables) if isinstance(self.null, str) else self.null,
                interval=self.interval and (self.interval[0].format(**variables), self.interval[1].format(**variables)),
                error=self.error and self.error.format(**variables),
                trusted=self.trusted,
                **{key: getattr(self, key).format(**variables) for key in ("title", "definition", "reading", "when")},
            )


class Shown(_Strict):
    """See table.Page."""

    columns: list[str]
    only: list[str] = []
    by: str | None = None


class Entries(_Strict):
    """A table (see table.Table). like: another table, listed before, whose columns it has too, except for `without`."""

    file: str
    rows: str
    level: Level
    keys: dict[Key, str] = {}
    like: str | None = None
    without: list[str] = []
    metrics: dict[str, Entry] = {}
    words: dict[str, str] = {}
    lists: dict[str, str] = {}
    page: Shown | None = None

    @field_validator("keys", mode="before")
    @classmethod
    def _by_name(cls, keys: Any) -> Any:
        """A list names columns that are called like their keys; in it, {row: col} says what another is called."""
        if not isinstance(keys, list):
            return keys
        return {name: column for key in keys for name, column in (key if isinstance(key, dict) else {key: key}).items()}


class Variable(str):
    """A value of `each` in a text: {x}, and {x.words}, the words for it."""

    words: str

    def __new__(cls, value: object, words: str) -> "Variable":
        """value: as it stands in the column's name; words: what stands for it in a title."""
        made = super().__new__(cls, value)
        made.words = words
        return made


def _choices(each: dict[str, Any], known: dict[str, Metric]) -> Iterator[dict[str, Variable]]:
    values = [
        [Variable(value, words) for value, words in options.items()]
        if isinstance(options, dict)
        else [Variable(value, known[str(value)].title if str(value) in known else str(value)) for value in options]
        for options in each.values()
    ]
    for chosen in product(*values):
        yield dict(zip(each, chosen, strict=True))
