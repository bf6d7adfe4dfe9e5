"""Ids of tokens that a model has no embedding for: some tokenizers have more tokens than their model has rows."""

from typing import Any

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.live.language_model import LanguageModel


def refuse_ids_beyond(model: LanguageModel, tokenizer: Any, where: object) -> None:
    """Let every forward pass of a model end in AtlasError that is given an id beyond its embedding.

    On a CPU this would be an IndexError from deep inside, on CUDA a failed assertion of the device, after which the
    process can do nothing more with it. where: the model, for the message.
    """
    embedding = model.get_input_embeddings()

    def check(module: torch.nn.Module, inputs: tuple, keywords: dict) -> None:
        ids = inputs[0] if inputs else keywords.get("input", keywords.get("input_ids"))
        if ids is not None and ids.numel() and (largest := int(ids.max())) >= embedding.weight.shape[0]:
            raise AtlasError(
                f"the text has token {largest} ({tokenizer.decode([largest])!r}), but the model's embedding has "
                f"{embedding.weight.shape[0]} rows",
                where=where,
                remedy="the tokenizer does not belong to these weights, or has tokens that the model was not trained "
                "on: take the model's own tokenizer, or a text without this token",
            )

    embedding.register_forward_pre_hook(check, with_kwargs=True)
