"""How lm-evaluation-harness encodes texts for a model, with the special tokens and the batch size that it takes.

The harness cannot do without ids that some tokenizers have no special token for.
"""

import json
from typing import Any

import pandas as pd
import torch
from lm_eval.models.huggingface import HFLM

from weight_atlas.ablations.batches import first_batch
from weight_atlas.live.language_model import LanguageModel
from weight_atlas.live.model_class import causal_class


class Encoder(HFLM):
    """The harness's own model class as far as it encodes; texts seen once are not tokenized again."""

    def __init__(self, model: LanguageModel, tokenizer: Any, *, batch_size: int | None = None):
        """batch_size: None takes the largest power of two up to 64 on CUDA (16 elsewhere) that memory allows."""
        tokenizer.pad_token_id = padding_id(tokenizer, model.get_input_embeddings().weight.shape[0])
        size = first_batch(model.device.type, batch_size)
        prefix = first_prefix(tokenizer)
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=size, prefix_token_id=prefix)
        self._pairs: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        self._texts: dict[str, list[int]] = {}

    def remember(self, requests: pd.DataFrame) -> None:
        """Take over the tokens of a table of requests (see ablations.requests)."""
        for row in requests.itertuples():
            arguments = json.loads(row.arguments)
            if row.type != "loglikelihood":
                self._texts[arguments[0]] = list(row.context_ids)
            elif arguments[0]:
                self._pairs[tuple(arguments)] = list(row.context_ids), list(row.continuation_ids)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        key = context, continuation
        if key not in self._pairs:
            self._pairs[key] = super()._encode_pair(context, continuation)
        return self._pairs[key]

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **keywords) -> list[int]:
        if add_special_tokens is not None or keywords:
            return super().tok_encode(string, add_special_tokens=add_special_tokens, **keywords)
        if string not in self._texts:
            self._texts[string] = super().tok_encode(string)
        return self._texts[string]

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str | None:
        # Asked for the text of the EOS token, which a tokenizer need not have: none then ends a generation.
        return None if tokens is None else super().tok_decode(tokens, skip_special_tokens=skip_special_tokens)


def encoder(checkpoint: Any, tokenizer: Any, *, trust_remote_code: bool) -> Encoder:
    """A harness model that encodes as the checkpoint's model does, and knows its context; it cannot score."""
    model_class, configuration = causal_class(checkpoint, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model: Any = model_class(configuration)
    return Encoder(model, tokenizer)


def padding_id(tokenizer: Any, rows: int) -> int:
    """The id to fill a batch with: the tokenizer's own, else its end or unknown token, else 0; below `rows`.

    Padding is masked and never read, but it is looked up in an embedding of so many rows.
    """
    own = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id)
    return next((known for known in own if known is not None and known < rows), 0)


def first_prefix(tokenizer: Any) -> int | None:
    """The id that stands before a text whose first token is scored, where there is neither BOS nor EOS; else None.

    It is a line break, after which texts do begin; for tokenizers that drop line breaks the unknown token, else 0.
    """
    if tokenizer.bos_token_id is not None or tokenizer.eos_token_id is not None:
        return None
    ids = tokenizer("\n", add_special_tokens=False)["input_ids"]
    return ids[-1] if ids else tokenizer.unk_token_id or 0
