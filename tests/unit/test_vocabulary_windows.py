"""Sliding windows: every token once, the report of what is wrong, and what is said to work does work."""

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.vocabulary.windows import (
    context_of,
    plan_windows,
    sliding_windows,
    text_ids,
    windows_for,
    windows_from,
    windows_table,
)  # fmt: skip


class Letters:
    """A tokenizer of single letters that puts BOS, 0, before a text."""

    def __call__(self, text, add_special_tokens=True, verbose=True):
        return {"input_ids": [0] * add_special_tokens + [ord(letter) for letter in text]}


def corpus(length):
    return pd.DataFrame({"text": ["a" * length]})


def cut(length=100, **settings):
    settings = {"window_len": 16, "stride": 8, "tokens": 100, "context": 64, "where": "corpus x", **settings}
    return sliding_windows(corpus(length), Letters(), **settings)


def test_each_token_is_scored_once_with_enough_before_it():
    windows, plan = cut(window_len=17, stride=8)
    assert plan.windows == len(windows) == 1 + (100 - 16) // 8
    assert (windows.ids[:, 0] == 0).all() and not windows.scored[:, 0].any()
    starts = np.arange(len(windows))[:, None] * 8 + np.arange(16)
    positions = starts[windows.scored[:, 1:].numpy()]
    assert sorted(positions.tolist()) == list(range(len(positions)))
    assert not windows.scored[1:, : 17 - 8].any()


def test_dropping_the_first_token_drops_only_what_follows_the_prefix():
    kept, dropped = cut()[0], cut(drop_first_token=True)[0]
    changed = kept.scored != dropped.scored
    assert changed.nonzero().tolist() == [[0, 1]]
    kept, dropped = cut(stride=15)[0], cut(stride=15, drop_first_token=True)[0]
    assert (kept.scored != dropped.scored).nonzero()[:, 1].unique().tolist() == [1]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"window_len": 128}, "exceeds the model's context of 64"),
        ({"stride": 16}, "stride 16 exceeds the 15 tokens"),
        ({"tokens": 20}, "tokens 20 is less than"),
        ({"window_len": 1}, "less than two tokens"),
        ({"length": 18}, "the corpus has 18 tokens, two windows take 23"),
    ],
)
def test_what_makes_no_windows_ends_with_a_report(settings, problem):
    with pytest.raises(AtlasError) as caught:
        cut(**settings)
    message = str(caught.value)
    assert problem in message and "corpus x" in message
    assert "window_len" in caught.value.remedy


def test_published_defaults_on_a_short_corpus_say_what_works():
    with pytest.raises(AtlasError) as caught:
        sliding_windows(corpus(700), Letters(), window_len=1024, stride=512, tokens=30_000, context=2048, where="x")
    wanted = dict(part.split(": ") for part in caught.value.remedy.removeprefix("set in `windows`: ").split("; "))
    settings = {name: int(value) for name, value in wanted.items()}
    windows, plan = sliding_windows(corpus(700), Letters(), context=2048, where="x", **settings)
    assert len(windows) >= 10 and not plan.problems


def test_no_text_at_all_has_no_recommendation():
    with pytest.raises(AtlasError, match="give more text"):
        cut(length=3)


@pytest.mark.parametrize("available", [24, 100, 5000, 100_000])
@pytest.mark.parametrize("context", [None, 64, 512, 4096])
def test_settings_left_open_always_work(available, context):
    plan = plan_windows(available, prefix=(0,), context=context, tokens=None)
    assert not plan.problems and plan.windows >= 2
    assert plan.window_len <= 1024


def test_advice_is_no_error():
    plan = plan_windows(50, window_len=20, stride=10, tokens=100)
    assert not plan.problems
    assert any("only 4 windows" in line for line in plan.advice) and any(
        "50 of the 100" in line for line in plan.advice
    )
    assert "4 windows" in plan.text() and plan.report()["windows"] == 4


def test_windows_survive_a_table():
    windows, _ = cut()
    again = windows_from(windows_table(windows))
    assert torch.equal(again.ids, windows.ids) and torch.equal(again.scored, windows.scored)


def test_windows_for_a_number_of_tokens():
    windows, _ = cut()
    assert windows_for(windows, None) == windows_for(windows, 10**6) == len(windows)
    assert windows_for(windows, 1) == 1
    assert windows_for(windows, 16) == 2  # the first scores 15, the others 8
    assert windows.scored[:3].sum() >= 24 and windows_for(windows, 24) == 3


def test_text_and_context():
    windows, _ = cut()
    assert text_ids(Letters(), windows, "ab", 40).tolist() == [[0, 97, 98]]
    assert text_ids(Letters(), windows, None, 5).shape == (1, 5)
    assert context_of({"n_positions": 1024}) == 1024
    assert context_of({"text_config": {"max_position_embeddings": 7}}) == 7
    assert context_of({}) is None
