"""The rules of findings, read from their files and checked against the registry of metrics. Imports nothing heavy."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weight_atlas import metrics
from weight_atlas.errors import AtlasError

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]  # it has the same interface

FOLDER = Path(__file__).parent
# The files of rules, in the order in which they are applied: `unless` names rules before.
PARTS = ("checkpoints", "weights", "tokens", "spectra", "quantization")
Grade = Literal["critical", "notable", "info"]
GRADES: tuple[Grade, ...] = ("critical", "notable", "info")
# What a sentence can name besides the columns of the gravest row.
FIELDS = {"places", "count", "looked_at", "value", "null", "effect"}


class Rule(BaseModel):
    """One rule: which rows of a table are a finding, all of them together one record.

    Expressions are those of pandas.DataFrame.eval, on the columns of the table and of the view; @looked_at is the
    number of rows that were looked at, by which a rule that rests on chance corrects for having looked at so many.

    table: its name in the registry of metrics. view: a function of views.py that adds columns. of: the rows to look
    at. when: those that are a finding. value: the number that it is about, a column or an expression; number: what it
    is called where the registry has no such column. null: what it would be without the finding, a column, a number or
    an expression; by itself what the registry says of the column `value`. worst: which values are the gravest. each:
    how the text names one row, by its columns in braces. text: a sentence, with FIELDS and the columns of the gravest
    row in braces. remedy: what to do. unless: rules whose findings explain this one: a row that they name is not
    looked at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    grade: Grade
    view: str | None = None
    of: str = ""
    when: str = Field(min_length=1)
    value: str = Field(min_length=1)
    number: str = ""
    null: str | float | None = None
    worst: Literal["largest", "smallest"] = "largest"
    each: str = ""
    text: str = Field(min_length=1)
    remedy: str = Field(min_length=1)
    unless: list[str] = []

    @property
    def null_expression(self) -> str | float | None:
        """The null as it is given, else the registry's of the column `value`."""
        if self.null is not None:
            return self.null
        column = metrics.of(self.table).by_column.get(self.value)
        return column.null if column else None


@cache
def rules() -> dict[str, Rule]:
    """All rules by their names, in the order in which they are applied."""
    found: dict[str, Rule] = {}
    for part in PARTS:
        found |= read_rules(FOLDER / f"{part}.yaml", found)
    return found


def files() -> set[str]:
    """The files that rules read, below the results folder, with the wildcard {model}."""
    return {metrics.of(rule.table).file for rule in rules().values()}


def read_rules(path: Path, known: dict[str, Rule] | None = None) -> dict[str, Rule]:
    """The rules of one file; known: those before it. AtlasError for what is not as Rule says, or names what is not."""
    made: dict[str, Rule] = {}
    for name, content in (yaml.load(path.read_text(encoding="utf-8"), SafeLoader) or {}).items():
        try:
            rule = Rule.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, (name, *first["loc"])))
            raise AtlasError(f"{key}: {first['msg']}", where=path, remedy="see findings/rules.py") from error
        for fault in _faults(rule, {**(known or {}), **made}):
            raise AtlasError(f"{name}: {fault}", where=path, remedy="see findings/rules.py")
        if name in (known or {}):
            raise AtlasError(f"{name} stands twice", where=path, remedy="a rule is one thing")
        made[name] = rule
    return made


def _faults(rule: Rule, known: dict[str, Rule]) -> Iterator[str]:
    table = metrics.of(rule.table)
    for name in rule.unless:
        if name not in known:
            yield f"no rule before it is called {name}"
    # Views add columns of their own, which a test of the rules knows.
    for template in () if rule.view else (rule.each, rule.text):
        for field in fields_of(template) - table.columns - FIELDS:
            yield f"{rule.table} has no column {field}"


def fields_of(template: str) -> set[str]:
    """What stands in braces in a template."""
    return {name for _, name, _, _ in Formatter().parse(template) if name}
