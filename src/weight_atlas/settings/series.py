"""Series: the checkpoints of one training run."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from weight_atlas.settings.base import Distinct, Entry, Name, Settings, Text
from weight_atlas.settings.model_entries import Analysed, Model
from weight_atlas.settings.models import Live, Stored

HUB = "hf:"


class Series(Analysed, Live, Stored):
    """An entry of `series`."""

    models: Annotated[Distinct[Text], Field(min_length=1)] | None = Field(
        None,
        description="Names of models of `models`: by the steps in their names where all have one, else in the order of "
        "the list. A list alone, in place of the entry, is these.",
    )
    source: Text | None = Field(
        None,
        description="Where the checkpoints lie, each of which becomes a model: hf://organisation/name with "
        "`revisions`, or a pattern of folders or checkpoint files, such as runs/mine/checkpoint-*, which is looked at "
        "in every run.",
    )
    revisions: Annotated[Distinct[Text], Field(min_length=1)] | None = Field(
        None, description="Branches, tags or commits of a hub model, one a checkpoint, by the steps in their names."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "Series":
        if (self.models is None) == (self.source is None):
            raise _wrong("needs either models or a source", "give a list of names of `models`, or `source`")
        given = sorted(self.model_fields_set - {"models", "source"})
        if self.source is None:
            if given:
                raise _wrong(f"takes {given[0]} from its models", f"move `{given[0]}` to the entries in `models`")
        elif self.source.startswith(HUB) and self.revisions is None:
            raise _wrong("needs the revisions of a hub model", "give `revisions: [step1000, step2000]`")
        elif not self.source.startswith(HUB) and self.revisions is not None:
            raise _wrong("has revisions of no hub model", "remove `revisions`, or give `source: hf://org/name`")
        return self


class Checkpoints(Settings):
    """The models that a series or a table adds to those of the configuration."""

    models: dict[Name, Entry[Model]] = Field(description="Models by their names, with the keys that `models.NAME` has.")


def _wrong(what: str, remedy: str) -> PydanticCustomError:
    return PydanticCustomError("series", what, {"remedy": remedy})


def _listed(value: Any) -> Any:
    """A list stands for an entry with these models."""
    return {"models": value} if isinstance(value, list) else value


SeriesEntry = Annotated[Series, BeforeValidator(_listed, json_schema_input_type=list[Text] | Series)]
