"""Tokenizers alone, to count tokens by without a model."""

from pydantic import Field

from weight_atlas.settings.base import Settings, Text


class TokenizerSpec(Settings):
    """An entry of `tokenizers`."""

    source: Text = Field(
        description="Where the tokenizer lies: hf://organisation/name, of which nothing else is downloaded, a folder, "
        "or one file: tokenizer.json, or a SentencePiece model (.model)."
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of a hub repository; resolved to a commit and recorded."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the tokenizer.")
