"""Whether a tuned model has its base's super weights, beside both models edited and scored by hand."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import drawn, plant, tiny, word_tokenizer

from weight_atlas.figures.super_weight_inheritance import inheritance
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.pages.headline import headline
from weight_atlas.settings.super_weights import SuperWeightVerification
from weight_atlas.super_weights.inheritance import Side, inheritance_table, side_of, summary_of, super_places

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
SETTINGS = SuperWeightVerification(window=16, tokens=96, score_every=1, corpus="text")


def artifact(*records):
    return {
        "super_weights": [
            {
                "layer": place.layer, "row": place.row, "column": place.col, "expert_id": place.expert,
                "role": place.role, "component": place.component, "verdict": verdict,
            }
            for place, verdict in records
        ]
    }  # fmt: skip


def corpus():
    words = np.random.default_rng(0).choice(WORDS, (6, 20))
    return pd.DataFrame({"text": [" ".join(row) for row in words]})


def mean_nll(model, windows):
    logits = model(windows).logits[:, :-1].flatten(0, 1).double()
    return torch.nn.functional.cross_entropy(logits, windows[:, 1:].flatten()).item()


@pytest.mark.slow
def test_a_tuned_model_keeps_a_weight_and_grows_one_of_its_own():
    base = tiny("llama", sharp=True)
    place = plant(anatomy(base), 1, 5, 9)
    tuned = copy.deepcopy(base)
    tuned.model.layers[1].mlp.down_proj.weight[5, 9] *= 1.25
    own = plant(anatomy(tuned), 2, 7, 30)
    a, b = artifact((place, "critical")), artifact((place, "critical"), (own, "mild"))
    of_a, of_b = super_places(a), super_places(b)
    sides = [side_of(anatomy(each), word_tokenizer(bos=True), corpus(), of_a, of_b, SETTINGS) for each in (base, tuned)]
    table = inheritance_table(a, b, *sides)
    assert table.weight.tolist() == [str(place), str(own), "all 2 of b"]
    assert table.of.tolist() == ["both", "b", "b"] and table.inherited.tolist() == [True, pd.NA, pd.NA]
    assert table.verdict_a.tolist()[:2] == ["critical", "no candidate"]
    assert table.value_ratio[0] == pytest.approx(1.25)
    assert table.value_a[1] == float(base.model.layers[2].mlp.down_proj.weight[7, 30]) != table.value_b[1]

    ids = torch.tensor(word_tokenizer(bos=False)("\n\n".join(corpus().text))["input_ids"])
    assert len(ids) > 96
    for model, letter in ((base, "a"), (tuned, "b")):
        removed = copy.deepcopy(model)
        removed.model.layers[1].mlp.down_proj.weight[5, 9] = 0
        windows = windows_of(side_windows(model))
        by_hand = mean_nll(removed, windows) - mean_nll(model, windows)
        assert table[f"delta_nll_{letter}"][0] == pytest.approx(by_hand, rel=1e-4)
        removed.model.layers[2].mlp.down_proj.weight[7, 30] = 0
        by_hand = mean_nll(removed, windows) - mean_nll(model, windows)
        assert table[f"delta_nll_{letter}"][2] == pytest.approx(by_hand, rel=1e-4)
    summary = summary_of(table, ["base", "tuned"])
    assert summary["inherited"] == summary["super_weights_a"] == 1 and summary["super_weights_b"] == 2
    first, _, second = summary["findings"][0]["text"].partition("; ")
    assert first == "1 of 1 super weights of base are super weights of tuned too, with 1.25 times their values"
    assert second == "tuned has 1 of its own."
    lines = headline({"super_weight_inheritance": {"a-vs-b.json": summary}})
    assert lines == [("super weights of a that b has", "1 of 1; b has 2 in all")]
    told = drawn(inheritance(table, ["base", "tuned"]))
    assert "no numbers" not in told


def side_windows(model):
    """The windows that the verification draws, of the same corpus and settings."""
    from weight_atlas.live.windows import drawn_windows

    return drawn_windows(
        corpus(), word_tokenizer(bos=True), window=16, tokens=96, limit=128, where="text", seed=SETTINGS.seed
    )


def windows_of(drawn_ones):
    assert drawn_ones.scored[:, 1:].all() and not drawn_ones.scored[:, 0].any()
    return drawn_ones.ids


def effect(delta):
    return {"delta_nll": delta, "delta_nll_low": delta, "delta_nll_high": delta, "ratio": math.exp(min(delta, 700))}


@pytest.mark.parametrize(
    ("verdict", "there", "inherited"),
    [("critical", 0.0, True), ("inert", 9.0, False), (None, 2.0, True), (None, 0.5, False), (None, math.nan, True)],
)
def test_a_weight_is_inherited_if_it_is_verified_or_does_half_of_the_harm(verdict, there, inherited):
    place, other = Coordinate(1, 2, 3, component="mlp.down_proj"), Coordinate(2, 2, 3, component="mlp.down_proj")
    known = [] if verdict is None else [(place, verdict)]
    a = Side({place: 2.0, other: 1.0}, {place: effect(2.0), other: effect(0.1)}, {})
    b = Side({place: 3.0, other: 0.0}, {place: effect(there), other: effect(1.0)}, {})
    table = inheritance_table(artifact((place, "critical")), artifact(*known, (other, "mild")), a, b)
    assert bool(table.inherited[0]) == inherited


def test_a_weight_that_the_other_model_lacks_is_told():
    base, small = tiny("llama"), tiny("llama", intermediate_size=8)
    place = anatomy(base).projections[1].coordinate(5, 9)
    a, b = artifact((place, "critical")), artifact()
    assert super_places(artifact((place, "inert"))) == [place]
    sides = [
        side_of(anatomy(each), word_tokenizer(bos=True), corpus(), [place], [], SETTINGS) for each in (base, small)
    ]
    table = inheritance_table(a, b, *sides)
    assert table.note[0].startswith("b: col 9 of") and pd.isna(table.value_b[0]) and not table.inherited[0]
    text = summary_of(table, ["base", "small"])["findings"][0]["text"]
    assert text.startswith("0 of 1 super weights of base") and "values" not in text
    drawn(inheritance(table, ["base", "small"]))
    assert "Neither model" in drawn(inheritance(table.iloc[:0], ["base", "small"]))
