"""The prompts that super weights are looked for in, as token ids with and without the tokenizer's own prefix."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.live.windows import prefix_ids


@dataclass(frozen=True)
class Prompts:
    """Prompts side by side, padded on the right, where a causal model's earlier tokens do not see it.

    ids: int64 (n, length). valid: bool (n, length), False on padding. prefixed: for each whether it begins with the
    tokenizer's prefix. number: for each which of the texts it is. tokens: for each its tokens as text.
    """

    ids: torch.Tensor
    valid: torch.Tensor
    prefixed: list[bool]
    number: list[int]
    tokens: list[list[str]]


def bundled_prompts() -> list[str]:
    """The prompts that come with the package; the first is the one of the paper."""
    import yaml

    return yaml.safe_load((resources.files(__package__) / "prompts.yaml").read_text(encoding="utf-8"))


def tokenized(tokenizer: Any, texts: Sequence[str], limit: int | None = None) -> Prompts:
    """Token ids of each text with the tokenizer's own prefix and, where it has one, without; at most `limit` tokens."""
    prefix = prefix_ids(tokenizer)
    plain = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    rows = [(number, bool(prefix), (prefix + ids)[:limit]) for number, ids in enumerate(plain)]
    if prefix:
        rows += [(number, False, ids[:limit]) for number, ids in enumerate(plain)]
    # A first token has nothing before it that could be told from it: it takes two to see where an activation arises.
    rows = [row for row in rows if len(row[2]) >= 2]
    if not rows:
        raise AtlasError("no prompt has two tokens", where="prompts", remedy="give longer prompts")
    length = max(len(ids) for _, _, ids in rows)
    padded = torch.zeros(len(rows), length, dtype=torch.int64)
    valid = torch.zeros(len(rows), length, dtype=torch.bool)
    for place, (_, _, ids) in enumerate(rows):
        padded[place, : len(ids)] = torch.tensor(ids)
        valid[place, : len(ids)] = True
    return Prompts(
        padded,
        valid,
        [prefixed for _, prefixed, _ in rows],
        [number for number, _, _ in rows],
        [[tokenizer.decode([token]) for token in ids] for _, _, ids in rows],
    )
