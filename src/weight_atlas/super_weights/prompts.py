"""The prompts of the detection, as token ids with and without the tokenizer's own prefix."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.live.windows import prefix_ids

# That of Yu et al., "The Super Weight in Large Language Models" (arXiv 2411.07191).
PROMPT = "Apple Inc. is a worldwide tech company."


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts, padded on the right, where a causal model does not see the padding.

    ids: int64 (n, length). valid: bool (n, length), False on padding. prefixed: whether each begins with the
    tokenizer's prefix. number: index of the text of each. tokens: of each, as text.
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
    # With one token the position of an activation could not be distinguished from the beginning of the text.
    rows = [row for row in rows if len(row[2]) >= 2]
    if not rows:
        raise AtlasError("no prompt has two tokens", where="prompts", remedy="give longer prompts")
    length = max(len(ids) for _, _, ids in rows)
    padded = torch.zeros(len(rows), length, dtype=torch.int64)
    valid = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, (_, _, ids) in enumerate(rows):
        padded[index, : len(ids)] = torch.tensor(ids)
        valid[index, : len(ids)] = True
    return Prompts(
        padded,
        valid,
        [prefixed for _, prefixed, _ in rows],
        [number for number, _, _ in rows],
        [[tokenizer.decode([token]) for token in ids] for _, _, ids in rows],
    )
