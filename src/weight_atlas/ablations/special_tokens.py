"""Ids that the harness cannot do without, for tokenizers that have no special token for them."""

from typing import Any


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
