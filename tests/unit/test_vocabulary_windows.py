"""Sliding windows: every token once, the report of what is wrong, and what is said to work does work."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.settings.vocabulary import Windows as WindowSettings
from weight_atlas.vocabulary.window_plan import plan_windows
from weight_atlas.vocabulary.windows import (
    sliding_windows,
    text_ids,
    windows_for,
    windows_from,
    windows_table,
)


class Letters:
    """A tokenizer of single letters that puts BOS, 0, before a text."""

    bos_token_id = 0
    is_fast = False

    def __call__(self, text, add_special_tokens=True, verbose=True):
        return {"input_ids": [0] * add_special_tokens + [ord(letter) for letter in text]}


class Bare(Letters):
    """The same, without BOS."""

    bos_token_id = None

    def __call__(self, text, add_special_tokens=True, verbose=True):
        return super().__call__(text, add_special_tokens=False)


class Shy(Bare):
    """It has a BOS, but puts none."""

    bos_token_id = 3


def corpus(length):
    return pd.DataFrame({"text": ["a" * length]})


def cut(length=100, tokenizer=Letters, **settings):
    context = settings.pop("context", 64)
    # Unchecked, so that values which the configuration refuses can be given too.
    settings = WindowSettings(window_len=16, stride=8, tokens=100).model_copy(update=settings)
    return sliding_windows(corpus(length), tokenizer(), settings, context=context, where="corpus x")


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
        ({"window_len": 0}, "less than two tokens"),
        ({"window_len": -5, "stride": -5}, "less than two tokens"),
        ({"stride": 0}, "stride 0 is less than 1"),
        ({"stride": -3}, "stride -3 is less than 1"),
        ({"tokens": 0}, "tokens 0 is less than"),
        ({"tokens": -7}, "tokens -7 is less than"),
        ({"window_len": 3, "stride": 2, "drop_first_token": True}, "leaves nothing to score"),
        ({"length": 18}, "the corpus has 18 tokens, two windows take 23"),
    ],
)
def test_what_makes_no_windows_ends_with_a_report(settings, problem):
    with pytest.raises(AtlasError) as caught:
        cut(**settings)
    message = str(caught.value)
    assert problem in message and "corpus x" in message
    assert "window_len" in caught.value.remedy or (settings["tokens"] < 8 and "tokens: 87" in caught.value.remedy)


def recommended(remedy):
    """The settings that a remedy names, in its order."""
    ways = re.findall(r"((?:\w+: \d+(?:; )?)+) \(", remedy)
    return [{name: int(value) for name, value in re.findall(r"(\w+): (\d+)", way)} for way in ways]


@pytest.mark.parametrize("length", [30, 700, 3000, 20_000])
@pytest.mark.parametrize(
    "asked",
    [
        {"window_len": 4096, "stride": 512},
        {"window_len": 1024, "stride": 512, "tokens": 20},
        {"window_len": 2048, "stride": 2048},
        {"window_len": 64, "stride": 900},
    ],
)
def test_what_is_recommended_is_the_largest_that_works(length, asked):
    def slide(**settings):
        return cut(length, **{"tokens": 30_000, "context": 2048, **asked, **settings})

    try:
        slide()
        return
    except AtlasError as error:
        found = recommended(error.remedy)
    assert found
    for each in found:
        windows, plan = slide(**each)
        assert not plan.problems and len(windows) >= 2
    largest = max(found, key=lambda each: each.get("window_len", 0))
    if "window_len" in largest and largest["window_len"] < min(asked["window_len"], 2048):
        longer = {**largest, "window_len": largest["window_len"] + 1}
        with pytest.raises(AtlasError):
            slide(**{**longer, "stride": longer["window_len"] // 2})


def test_recommendations_by_hand():
    plan = plan_windows(3000, window_len=2048, stride=512, context=1024, tokens=30_000)
    assert plan.recommended == {"window_len": 1024, "stride": 512, "tokens": 3000}
    plan = plan_windows(700, window_len=1024, stride=512, prefix=(0,), tokens=30_000)
    assert plan.recommended == {"window_len": 467, "stride": 233, "tokens": 700}  # 466 + 233 = 699 of 700
    length, stride = plan.for_intervals["window_len"], plan.for_intervals["stride"]
    assert length - 1 + 9 * stride <= 700 < length + 9 * ((length + 1) // 2)


def test_more_tokens_are_recommended_where_the_corpus_has_them():
    with pytest.raises(AtlasError) as caught:
        cut(length=500, tokens=20)
    assert recommended(caught.value.remedy)[0] == {"tokens": 15 + 9 * 8}
    assert len(cut(length=500, tokens=15 + 9 * 8)[0]) == 10
    with pytest.raises(AtlasError) as caught:
        cut(length=40, tokens=20)
    assert recommended(caught.value.remedy)[0] == {"tokens": 40}
    with pytest.raises(AtlasError) as caught:
        cut(length=20, tokens=20)
    assert "the corpus has them" not in caught.value.remedy


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


@pytest.mark.parametrize("tokenizer", [Letters, Bare])
@pytest.mark.parametrize("stride", [5, 8, None])
@pytest.mark.parametrize("drop", [False, True])
def test_the_report_counts_what_is_scored(tokenizer, stride, drop):
    prefix = 1 if tokenizer is Letters else 0
    stride = 16 - prefix if stride is None else stride
    windows, plan = cut(tokenizer=tokenizer, stride=stride, drop_first_token=drop)
    assert plan.tokens_scored == plan.report()["tokens_scored"] == int(windows.scored.sum())
    unscored = any("is not scored, since nothing stands before" in line for line in plan.advice)
    assert unscored == (stride == 16)
    assert any("drop_first_token has no effect" in line for line in plan.advice) == (drop and not prefix)
    if not prefix:
        assert torch.equal(windows.scored, cut(tokenizer=tokenizer, stride=stride)[0].scored)


def test_bos_by_policy():
    assert [cut(bos=bos)[0].ids[0, :2].tolist() for bos in ("tokenizer", "always", "never")] == [
        [0, 97],
        [0, 97],
        [97, 97],
    ]
    assert [cut(tokenizer=Shy, bos=bos)[0].prefix for bos in ("tokenizer", "always", "never")] == [0, 1, 0]
    windows, plan = cut(tokenizer=Shy, bos="always")
    assert (windows.ids[:, 0] == 3).all() and plan.report()["prefix"] == [3] and windows.ids.shape[1] == 16
    assert cut(tokenizer=Bare, bos="never")[0].prefix == 0
    with pytest.raises(AtlasError, match="has no BOS token"):
        cut(tokenizer=Bare, bos="always")
    with pytest.raises(AtlasError, match="no policy"):
        cut(bos="sometimes")


def test_windows_survive_a_table():
    windows = replace(cut()[0], documents=np.arange(11) // 3)
    again = windows_from(windows_table(windows))
    assert torch.equal(again.ids, windows.ids) and torch.equal(again.scored, windows.scored)
    assert np.array_equal(again.documents, windows.documents)
    assert again.prefix == windows.prefix == windows.first(1).prefix == 1


def test_windows_for_a_number_of_tokens():
    windows, _ = cut()
    assert windows_for(windows, None) == windows_for(windows, 10**6) == len(windows)
    assert windows_for(windows, 1) == 1
    assert windows_for(windows, 16) == 2  # the first scores 15, the others 8
    assert windows.scored[:3].sum() >= 24 and windows_for(windows, 24) == 3


def test_text_and_context():
    windows, _ = cut()
    assert text_ids(Letters(), windows, "ab", 40).tolist() == [[0, 97, 98]]
    # By the policy of the windows, whatever the tokenizer would do.
    assert text_ids(Letters(), cut(bos="never")[0], "ab", 40).tolist() == [[97, 98]]
    assert text_ids(Shy(), cut(tokenizer=Shy, bos="always")[0], "ab", 2).tolist() == [[3, 97]]
    assert text_ids(Letters(), windows, None, 5).shape == (1, 5)
    assert Architecture.common({"n_positions": 1024}).context == 1024
    assert Architecture.common({"text_config": {"max_position_embeddings": 7}}).context == 7
    assert Architecture.common({}).context is None
