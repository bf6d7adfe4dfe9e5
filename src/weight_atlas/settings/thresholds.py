"""What a model is held to where it is checked before a release: limits of numbers, and grades of findings."""

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from weight_atlas.settings.base import Distinct, Settings, Text

Graded = Literal["critical", "notable", "info"]


class Limit(Settings):
    """What a number of every row of a table must keep to."""

    least: float | None = Field(None, description="The smallest value allowed; null: any.")
    most: float | None = Field(None, description="The largest value allowed; null: any.")
    roles: Distinct[Text] | None = Field(None, description="Roles of the tensors that are held to it; null: all.")
    grade: Graded = Field("critical", description="Grade of the finding where it is not kept.")

    @model_validator(mode="after")
    def _limits_something(self) -> "Limit":
        if self.least is None and self.most is None:
            raise PydanticCustomError("no_limit", "A limit needs `least` or `most`")
        return self


class Thresholds(Settings):
    """A file of thresholds, for --thresholds."""

    limits: dict[str, Limit] = Field(
        {}, description="Limits by metric, as docs/metrics.md names them: {effective_rank.condition: {most: 1.0e6}}."
    )
    ignore: Distinct[Text] = Field([], description="Findings that are known and accepted, by their ids.")
    grades: dict[str, Graded] = Field({}, description="Other grades of findings, by their ids.")
