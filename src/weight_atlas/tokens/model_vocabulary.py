"""The vocabulary of one model, or of a tokenizer alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.artifacts import read_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.tokens.tokenizer import (
    embedding_rows,
    token_texts,
    tokenizer_and_source,
    vocabulary_size,
)
from weight_atlas.tokens.tokenizer_source import open_tokenizer


@dataclass(frozen=True)
class ModelVocabulary:
    """A model's tokenizer, where its ids come from, and the text of each id's token ("" for ids without one).

    tokenizer_ids: ids that the tokenizer can give, from 0 on. embedding_rows: of the model; None without one. file: the
    tokenizer.json that the ids come from, if there is one.
    """

    tokenizer: Any
    ids_from: dict[str, Any]
    texts: list[str]
    tokenizer_ids: int
    embedding_rows: int | None = None
    file: Path | None = None


def read_vocabulary(folder: Path, config: dict, inventory: pd.DataFrame, *, trust_remote_code: bool) -> ModelVocabulary:
    """Read the vocabulary of the checkpoint in a folder: all ids of its tokenizer and of its embedding."""
    tokenizer, ids_from = tokenizer_and_source(folder, trust_remote_code=trust_remote_code)
    rows = embedding_rows(inventory)
    size = vocabulary_size(tokenizer, config, rows)
    return ModelVocabulary(
        tokenizer, ids_from, token_texts(tokenizer, size), vocabulary_size(tokenizer, {}), rows, _file(folder, ids_from)
    )


def tokenizer_vocabulary(place: Path, *, trust_remote_code: bool) -> ModelVocabulary:
    """Read the vocabulary of a tokenizer without a model: in a folder, or one file."""
    tokenizer, ids_from = tokenizer_and_source(place, trust_remote_code=trust_remote_code)
    size = vocabulary_size(tokenizer, {})
    return ModelVocabulary(tokenizer, ids_from, token_texts(tokenizer, size), size, None, _file(place, ids_from))


def _file(place: Path, ids_from: dict[str, Any]) -> Path | None:
    """The tokenizer.json in a folder, or that is itself the place, where it is what ids come from."""
    file = place / "tokenizer.json" if place.is_dir() else place
    return file if file.suffix == ".json" and ids_from["source"] == file.name else None


def manifest_vocabulary(
    checkpoint: Path | None, inventory: Path | None, tokenizer: Path | None, *, trust_remote_code: bool
) -> ModelVocabulary:
    """Read the vocabulary of a model (its manifest and its table of tensors), or of a tokenizer by its manifest."""
    if checkpoint is None or inventory is None:
        if tokenizer is None:
            raise AtlasError("nothing to count by", remedy="give checkpoint and tensor_inventory, or tokenizer")
        return tokenizer_vocabulary(open_tokenizer(tokenizer), trust_remote_code=trust_remote_code)
    opened = open_checkpoint(checkpoint)
    return read_vocabulary(opened.folder, opened.config, read_table(inventory), trust_remote_code=trust_remote_code)
