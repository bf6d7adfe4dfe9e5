"""What all classes of settings have in common: strict checks, and the types that many keys share."""

import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Settings(BaseModel):
    """A section of the configuration, or an entry of one. Types are exact: "3" and true are no numbers."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, regex_engine="python-re", defer_build=True
    )


Item = TypeVar("Item")
# Integers are stored and counted in 64 bits.
LARGEST = 1 << 63


def whole(value: Any) -> Any:
    """A whole float as the integer that it is: JSON Schema takes 2.0 for an integer, range() does not.

    Integers that arrays cannot hold are refused.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise PydanticCustomError("too_large", "Input should be less than 2^63")
    return value


def _not_nan(value: float) -> float:
    if math.isnan(value):
        raise PydanticCustomError("finite_number", "Input should be a finite number")
    return value


def _distinct(values: list[Item]) -> list[Item]:
    if any(value in values[:number] for number, value in enumerate(values)):
        raise PydanticCustomError("not_distinct", "List should hold each item once")
    return values


def _given(value: Any) -> Any:
    """An entry of which the configuration gives no more than the name takes all defaults."""
    return {} if value is None else value


WHOLE = BeforeValidator(whole)
Natural = Annotated[int, Field(ge=0), WHOLE]  # 0, 1, 2, ...
Count = Annotated[int, Field(ge=1), WHOLE]  # 1, 2, 3, ...
Several = Annotated[int, Field(ge=2), WHOLE]
WindowLength = Annotated[int, Field(ge=3), WHOLE]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Percent = Annotated[float, Field(gt=0, lt=100)]
# What weights are multiplied by: infinity is a number there, whose effect is an answer.
Factor = Annotated[float, Field(allow_inf_nan=True), AfterValidator(_not_nan)]
Text = Annotated[str, Field(min_length=1)]
Distinct = Annotated[list[Item], AfterValidator(_distinct), Field(json_schema_extra={"uniqueItems": True})]
AnyEntry = TypeVar("AnyEntry", bound=Settings)
Entry = Annotated[AnyEntry, BeforeValidator(_given)]

# How the files of results end: with such a name, the file of one model would be a folder or a file of another.
ENDS = (
    "agreement",
    "changes",
    "contributions",
    "csv",
    "definitions",
    "gguf",
    "groups",
    "heads",
    "html",
    "iterations",
    "json",
    "jsonl",
    "log",
    "md",
    "npy",
    "parquet",
    "png",
    "residual",
    "shares",
    "sinks",
    "steps",
    "tokens",
    "tsv",
    "variants",
    "weights",
)
# A part that stands 20 times in a row is a wildcard without end to Snakemake.
NAME = rf"^(?!.*\.\.)(?!.*\.(?:{'|'.join(ENDS)})$)(?!.*?(.+)\1{{19}}$)[A-Za-z0-9][A-Za-z0-9._-]*(?!\n)$"
Name = Annotated[str, Field(pattern=NAME, max_length=100)]


Effort = Literal["quick", "standard", "thorough"]


def by_effort(standard: Any, *, quick: Any, thorough: Any, description: str) -> Any:
    """A key whose default follows `effort`: what a step that runs the model costs, it costs by such keys."""
    defaults = {"quick": quick, "standard": standard, "thorough": thorough}
    return Field(standard, description=description, json_schema_extra={"by_effort": defaults})


class FirstCorpus(Settings):
    """A section whose text comes from one of the corpora."""

    corpus: str | None = Field(None, description="Corpus to take the text from; null: the first one.")
