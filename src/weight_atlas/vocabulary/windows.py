"""Sliding windows for interventions: settings checked against corpus and model, and a report of what would fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.families.quantities import flat
from weight_atlas.lm.windows import Windows, fixed_windows, prefix_ids, token_stream

# Fewer windows than this make bootstrap intervals too narrow.
ENOUGH_WINDOWS = 10


@dataclass(frozen=True)
class Plan:
    """Settings of sliding windows after they were checked.

    window_len: tokens of a window, prefix included. stride: new tokens from one window to the next. available: tokens
    of the corpus that were read. context: the model's longest sequence. problems: why no windows can be made;
    advice: what is weak about them; recommended: settings that work, or None.
    """

    window_len: int
    stride: int
    tokens: int | None
    available: int
    prefix: tuple[int, ...]
    context: int | None
    drop_first_token: bool
    problems: tuple[str, ...]
    advice: tuple[str, ...]
    recommended: dict[str, int] | None

    @property
    def windows(self) -> int:
        """Number of windows that fit."""
        content = self.window_len - len(self.prefix)
        return 0 if self.problems else 1 + (self.available - content) // self.stride

    def report(self) -> dict[str, Any]:
        """The plan in plain values."""
        return {
            "window_len": self.window_len,
            "stride": self.stride,
            "tokens": self.tokens,
            "tokens_available": self.available,
            "prefix": list(self.prefix),
            "context": self.context,
            "drop_first_token": self.drop_first_token,
            "windows": self.windows,
            "problems": list(self.problems),
            "advice": list(self.advice),
            "recommended": self.recommended,
        }

    def text(self) -> str:
        """The plan as lines to read."""
        lines = [
            f"window_len {self.window_len}, stride {self.stride}, tokens {self.tokens}, "
            f"drop_first_token {str(self.drop_first_token).lower()}",
            f"corpus: {self.available} tokens; model: context of {self.context or 'unknown length'}, "
            f"{len(self.prefix)} special tokens before each window",
            *(f"problem: {problem}" for problem in self.problems),
            *(f"advice: {advice}" for advice in self.advice),
        ]
        if not self.problems:
            lines.append(f"{self.windows} windows")
        elif self.recommended:
            lines.append("these work: " + ", ".join(f"{key}: {value}" for key, value in self.recommended.items()))
        return "\n".join(lines)


def plan_windows(
    available: int,
    *,
    window_len: int | None = None,
    stride: int | None = None,
    tokens: int | None = 30_000,
    drop_first_token: bool = False,
    prefix: tuple[int, ...] = (),
    context: int | None = None,
) -> Plan:
    """Check the settings of sliding windows; nothing is raised, the plan lists what is wrong.

    available: tokens that the corpus gives, at most `tokens`. window_len: None takes 1024, or the model's context or
    what the corpus allows where that is less. stride: None takes half a window. Two windows are the least, since
    intervals come from differences between windows: tokens >= window_len + stride, less the prefix.
    """
    largest = min(context or available, max(4, 2 * (available + len(prefix)) // 3))
    window_len = min(1024, largest) if window_len is None else window_len
    stride = max(1, window_len // 2) if stride is None else stride
    content = window_len - len(prefix)
    problems = []
    if context is not None and window_len > context:
        problems.append(f"window_len {window_len} exceeds the model's context of {context}")
    if content < 2:
        problems.append(f"window_len {window_len} leaves less than two tokens beside {len(prefix)} special ones")
    elif stride > content:
        problems.append(f"stride {stride} exceeds the {content} tokens of text in a window: some would never be scored")
    elif drop_first_token and stride == content and content < 3:
        problems.append("drop_first_token leaves nothing to score in windows as short as this")
    if tokens is not None and tokens < content + stride:
        problems.append(f"tokens {tokens} is less than window_len + stride less the prefix = {content + stride}")
    elif available < content + stride:
        problems.append(f"the corpus has {available} tokens, two windows take {content + stride}")
    advice = _advice(available, content, stride, tokens) if not problems else []
    recommended = _recommended(available, len(prefix), context) if problems else None
    return Plan(
        window_len, stride, tokens, available, tuple(prefix), context, drop_first_token, tuple(problems),
        tuple(advice), recommended,
    )  # fmt: skip


def _advice(available: int, content: int, stride: int, tokens: int | None) -> list[str]:
    count = 1 + (available - content) // stride
    advice = []
    if count < ENOUGH_WINDOWS:
        advice.append(f"only {count} windows: take more tokens or shorter windows for intervals that can be trusted")
    if tokens is not None and available < tokens:
        advice.append(f"the corpus gave {available} of the {tokens} tokens asked for")
    rest = (available - content) % stride
    if rest:
        advice.append(f"the last {rest} tokens fill no stride and are left out")
    return advice


def _recommended(available: int, prefix: int, context: int | None) -> dict[str, int] | None:
    """The largest power of two, and half of it as stride, that gives ten windows, or as many as possible."""
    limit = min(1024, context or 1024)
    for wanted in (ENOUGH_WINDOWS, 2):
        length = 1 << limit.bit_length() - 1
        while length >= 8:
            content, stride = length - prefix, length // 2
            if content > stride and available >= content + (wanted - 1) * stride:
                return {"window_len": length, "stride": stride, "tokens": available}
            length //= 2
    return None


def sliding_windows(
    corpus: pd.DataFrame,
    tokenizer: Any,
    *,
    context: int | None,
    where: object,
    window_len: int | None = None,
    stride: int | None = None,
    tokens: int | None = 30_000,
    drop_first_token: bool = False,
) -> tuple[Windows, Plan]:
    """Sliding windows over the first tokens of a corpus's documents, joined by blank lines; and the checked plan.

    Each window begins with the tokenizer's own prefix (BOS, where it puts one); every token is scored once, with at
    least window_len - stride tokens before it except in the first window. drop_first_token: do not score the first
    token of text in a window, which has nothing but the prefix before it. Settings that make no windows are an
    AtlasError that holds the whole report.
    """
    stream = token_stream(corpus, tokenizer, tokens)
    prefix = prefix_ids(tokenizer)
    plan = plan_windows(
        len(stream), window_len=window_len, stride=stride, tokens=tokens, drop_first_token=drop_first_token,
        prefix=tuple(prefix), context=context,
    )  # fmt: skip
    if plan.problems:
        works = "; ".join(f"{key}: {value}" for key, value in (plan.recommended or {}).items())
        raise AtlasError(
            f"no windows can be made:\n{plan.text()}",
            where=where,
            remedy=f"set in `windows`: {works}" if works else "give more text",
        )
    windows = fixed_windows(stream, window=plan.window_len, stride=plan.stride, prefix=prefix, limit=context)
    if drop_first_token:
        scored = windows.scored.clone()
        scored[:, len(prefix)] = False
        windows = Windows(windows.ids, scored)
    return windows, plan


def context_of(config: Mapping[str, Any]) -> int | None:
    """The longest sequence that a model takes, where its config.json says."""
    known = flat(config)
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "n_ctx", "seq_length")
    return next((known[name] for name in names if isinstance(known.get(name), int) and known[name] > 0), None)


def windows_for(windows: Windows, tokens: int | None) -> int:
    """How many windows to take, from the first on, to score at least so many tokens; all if None or too few."""
    scored = windows.scored.sum(dim=1).cumsum(0)
    return len(windows) if tokens is None else min(len(windows), 1 + int((scored < tokens).sum()))


def text_ids(tokenizer: Any, windows: Windows, text: str | None, tokens: int) -> torch.Tensor:
    """Ids (1, length) of a text with the tokenizer's own prefix, or of the first window; at most `tokens`."""
    if text is None:
        return windows.ids[:1, :tokens]
    ids = prefix_ids(tokenizer) + tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor([ids[:tokens]], dtype=torch.int64)


def windows_table(windows: Windows) -> pd.DataFrame:
    """Windows as a table: window, ids (list), scored (list of bool)."""
    return pd.DataFrame(
        {
            "window": np.arange(len(windows)),
            "ids": [row.astype(np.int32) for row in windows.ids.numpy()],
            "scored": list(windows.scored.numpy()),
        }
    )


def windows_from(table: pd.DataFrame) -> Windows:
    """The windows that a table of `windows_table` holds."""
    ids = torch.from_numpy(np.stack(table.ids.to_numpy()).astype(np.int64))
    return Windows(ids, torch.from_numpy(np.stack(table.scored.to_numpy()).astype(bool)))
