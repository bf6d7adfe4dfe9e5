"""The texts to count tokens in and to evaluate on."""

from typing import Annotated, Literal

from pydantic import Field

from weight_atlas.settings.base import Count, Distinct, Settings, Text


class Corpus(Settings):
    """An entry of `corpora`."""

    source: Text | Annotated[Distinct[Text], Field(min_length=1)] = Field(
        description="bundled:python-docs, hf:dataset, or one or more paths or globs of .txt, .jsonl, .json (objects: "
        "one a line, or in an array), .csv or .parquet files; all but the last also compressed, as .gz, .zst or .bz2."
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
        None, description="Rows to read, from the beginning; of a hub data set these alone are fetched; null: all."
    )
    keep: dict[str, Annotated[list[Text], Field(min_length=1)]] = Field(
        {}, description="Rows to keep, by the values of columns as texts: {language: [de, en]}."
    )
    max_documents: Count | None = Field(
        None, description="Documents to take, from the beginning, of those that are kept and have text; null: all."
    )
    invalid_utf8: Literal["error", "replace", "skip"] = Field(
        "error",
        description="What becomes of text that is not UTF-8: the corpus is refused, what is wrong is replaced by "
        "U+FFFD, or the documents are left out.",
    )
    part_megabytes: Count = Field(
        256,
        description="Local files of more than this are counted in parts of about this size, each a job, straight from "
        "the files; the table of documents, which steps that run a model read, then holds so much of the beginning.",
    )
