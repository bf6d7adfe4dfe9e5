"""Sliding windows over a corpus for interventions, or a report of the settings that would fit it."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.live.windows import Windows, drawn_over, fixed_windows, prefix_by, token_stream
from weight_atlas.settings.vocabulary import Windows as WindowSettings
from weight_atlas.vocabulary.window_plan import ENOUGH_WINDOWS, LONGEST, WindowPlan, plan_windows


def sliding_windows(
    corpus: pd.DataFrame,
    tokenizer: Any,
    settings: WindowSettings,
    *,
    context: int | None,
    where: object,
) -> tuple[Windows, WindowPlan]:
    """Make sliding windows over a corpus, or passages drawn from all over it, joined by blank lines.

    Returns the windows and the checked plan. Each window begins with the prefix that the policy `bos` chooses (see
    `prefix_by`). Every token is scored once, with at least window_len - stride tokens before it except in the first
    window. Without a prefix nothing precedes the first token of the first window (of every window, if the stride is a
    whole window), so that it is not scored; drop_first_token leaves it out behind a prefix, too. Raises AtlasError with
    the whole report for settings that make no windows, and NotApplicable for windows longer than the model's context.
    """
    prefix = prefix_by(tokenizer, settings.bos)
    tokens, drop_first_token = settings.tokens, settings.drop_first_token
    if tokens is not None:
        length = min(LONGEST, context or LONGEST) if settings.window_len is None else settings.window_len
        corpus = drawn_over(corpus, seed=settings.seed, window=length)
    stream = token_stream(corpus, tokenizer, tokens)
    wanted: dict[str, Any] = {"window_len": settings.window_len, "stride": settings.stride, "tokens": tokens}
    wanted |= {"drop_first_token": drop_first_token, "prefix": tuple(prefix), "context": context}
    plan = plan_windows(len(stream), **wanted)
    if plan.problems:
        if tokens is not None and len(stream) >= tokens:
            # Perhaps only `tokens` is too small.
            enough = max(1, plan.content + (ENOUGH_WINDOWS - 1) * plan.stride)
            plan = plan_windows(len(stream), **wanted, beyond=len(token_stream(corpus, tokenizer, enough)))
        if context is not None and plan.window_len > context:
            raise NotApplicable(plan.problems[0], where=where, remedy=plan.remedy())
        raise AtlasError(f"no windows can be made:\n{plan.text()}", where=where, remedy=plan.remedy())
    windows = fixed_windows(
        stream.ids,
        documents=stream.documents,
        window=plan.window_len,
        stride=plan.stride,
        prefix=prefix,
        limit=context,
    )
    if drop_first_token:
        scored = windows.scored.clone()
        scored[:, len(prefix)] = False
        windows = windows.scoring(scored)
    return windows, plan


def windows_for(windows: Windows, tokens: int | None) -> int:
    """The number of windows, from the first on, that score at least `tokens` tokens; all for None or if too few."""
    scored = windows.scored.sum(dim=1).cumsum(0)
    return len(windows) if tokens is None else min(len(windows), 1 + int((scored < tokens).sum()))


def text_ids(tokenizer: Any, windows: Windows, text: str | None, tokens: int) -> torch.Tensor:
    """Token ids (1, length) of a text behind the windows' prefix, or of the first window; at most `tokens`."""
    if text is None:
        return windows.ids[:1, :tokens]
    ids = windows.ids[0, : windows.prefix].tolist() + tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor([ids[:tokens]], dtype=torch.int64)


def windows_table(windows: Windows) -> pd.DataFrame:
    """Windows as a table: window, document, prefix (number of special tokens), ids (list), scored (list of bool)."""
    return pd.DataFrame(
        {
            "window": np.arange(len(windows)),
            "document": windows.units,
            "prefix": np.int32(windows.prefix),
            "ids": [row.astype(np.int32) for row in windows.ids.numpy()],
            "scored": list(windows.scored.numpy()),
        }
    )


def windows_from(table: pd.DataFrame) -> Windows:
    """Windows from a table that windows_table made."""
    ids = torch.from_numpy(np.stack(table.ids.to_numpy()).astype(np.int64))
    scored = torch.from_numpy(np.stack(table.scored.to_numpy()).astype(bool))
    return Windows(ids, scored, int(table.prefix.iloc[0]), table.document.to_numpy())
