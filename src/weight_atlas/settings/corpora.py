"""The texts to count tokens in and to evaluate on."""

from typing import Annotated

from pydantic import Field

from weight_atlas.settings.base import Count, Distinct, Settings, Text


class Corpus(Settings):
    """An entry of `corpora`."""

    source: Text | Annotated[Distinct[Text], Field(min_length=1)] = Field(
        description="bundled:python-docs, hf:dataset, or one or more paths or globs of .txt, .jsonl or .parquet files."
    )
    name: str | None = Field(None, description="Configuration name of a hub data set.")
    split: str | None = Field(
        None,
        description="Split of the corpus. Bundled: test (the default) or train; hub: as the data set names it, train "
        "by default.",
    )
    column: str = Field("text", description="Column that holds the text.")
    group_column: str | None = Field(None, description="Column that names a group, such as a language.")
    revision: str | None = Field(None, description="Revision of a hub data set.")
    limit: Count | None = Field(
        None, description="First so many rows of a hub data set, streamed; all of it by default."
    )
