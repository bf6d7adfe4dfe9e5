"""Verdicts: planted weights are critical on every layout, sets count together, large inert weights do not."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import drawn, layouts, own_text, plant, random_prompts, tiny, word_tokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.figures import super_weight_verification as figures
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.matrices import matrix_at
from weight_atlas.settings.super_weights import SuperWeights, SuperWeightVerification
from weight_atlas.super_weights.artifact import artifact
from weight_atlas.super_weights.detection import detect
from weight_atlas.super_weights.found_records import detected_records
from weight_atlas.super_weights.recording import record
from weight_atlas.super_weights.screening import COLUMNS as SCREENED
from weight_atlas.super_weights.verdict import verified
from weight_atlas.super_weights.verification import verify
from weight_atlas.super_weights.verification_plan import cost, plan
from weight_atlas.super_weights.weight_attribution import COLUMNS as ATTRIBUTED

DEFAULTS = SuperWeightVerification()
NO_OUTLIERS, NO_EFFECTS = pd.DataFrame(columns=list(SCREENED)), pd.DataFrame(columns=list(ATTRIBUTED), dtype=float)


@pytest.mark.parametrize("layout", layouts())
def test_the_planted_weight_is_critical(layout):
    live = anatomy(tiny(layout, sharp=True))
    place = plant(live, 1, 9, 21)
    before = {name: parameter.clone() for name, parameter in live.model.named_parameters()}
    windows = own_text(live, windows=6, length=16)
    planned = plan(live, [place], draws=10, seed=0)
    controls = [one.change.places[0] for one in planned if one.kind == "random"]
    assert len(set(controls)) == 10
    assert place not in controls
    judged = verify(live, windows, planned, DEFAULTS)
    row = judged.table.iloc[0]
    assert judged.verdict == row.verdict == "critical"
    assert row.delta_nll > 1 > 0.05 > row.null_max
    assert row.delta_nll_low > 0
    assert row.p_value == pytest.approx(1 / 11)
    assert row.neuron_delta_nll > 1
    assert all(torch.equal(before[name], parameter) for name, parameter in live.model.named_parameters())


def test_weights_that_share_a_row_count_together():
    live = anatomy(tiny("llama", sharp=True))
    places = [plant(live, 1, 9, col, write=250) for col in (21, 35)]
    inert = Coordinate(2, 3, 4, component="mlp.down_proj")
    matrix_at(live, inert)[3, 4] = 5.0
    matrix_at(live, Coordinate(2, None, None, role="W_up"))[4] = 0
    windows = own_text(live, windows=6, length=16)
    judged = verify(live, windows, plan(live, [*places, inert], draws=20, seed=0), DEFAULTS)
    table = judged.table
    assert table.verdict.tolist()[2] == "inert"
    assert set(table.verdict[:2]) <= {"critical", "contributing", "harmful but not special"}
    joint = judged.variants[judged.variants.kind == "joint"].iloc[0]
    assert joint.weights == 3
    assert joint.ratio > 1.5
    # Keeping either of the two keeps the model; keeping the inert one keeps nothing.
    assert (table.rescue[:2] > 0.1 * joint.delta_nll).all()
    assert abs(table.rescue[2]) < 0.01 * joint.delta_nll
    assert not set(judged.variants[judged.variants.kind.str.startswith("random")].variant) & {
        str(p) for p in [*places, inert]
    }
    assert "What removing" in drawn(figures.verification(table, judged.variants))


def test_only_together():
    """Neither of two weights that do the same matters alone; without both the model is another one."""
    live = anatomy(tiny("llama", sharp=True))
    places = [plant(live, 1, 9, col, write=4000) for col in (21, 35)]
    windows = own_text(live, windows=6, length=16)
    judged = verify(live, windows, plan(live, places, draws=20, seed=0), SuperWeightVerification(critical_ratio=3.0))
    joint = judged.variants[judged.variants.kind == "joint"].iloc[0]
    assert joint.delta_nll > 5 * judged.table.delta_nll.max()
    assert judged.verdict in ("critical", "critical together")
    assert (judged.table.rescue > 0).all()


@pytest.mark.parametrize(("layout", "seed", "verdict"), [
    ("gpt2", 0, {"critical", "harmful but not special"}), ("gpt2", 1, {"critical", "harmful but not special"}),
    ("llama", 0, {"inconclusive"}),
])  # fmt: skip
def test_a_harmful_weight_is_never_inert_but_is_said_to_be_no_exception(layout, seed, verdict):
    """Its neuron is not silent, and it has no equals: it exceeds smaller weights, but not the same change anywhere."""
    live = anatomy(tiny(layout, seed=seed, sharp=True))
    place = live.projections[2].coordinate(3, 4)
    matrix = matrix_at(live, place)
    matrix[3, 4] = matrix.abs().max() * 60
    windows = own_text(live, windows=6, length=16)
    for draws in (5, 20):
        seen = verify(live, windows, plan(live, [place], draws=draws, seed=draws), DEFAULTS)
        (row,) = seen.table.itertuples()
        # Whatever was drawn: it is harmful, or may be.
        assert row.verdict == seen.verdict and row.verdict in verdict
        assert row.delta_nll > 1.5
        assert row.magnitude_ratio < 0.5
        assert row.shift_draws == draws
    assert row.shift_max > row.null_max


def test_out_of_memory_is_a_message_wherever_it_happens():
    live = anatomy(tiny("mixtral", sharp=True))
    plant(live, 1, 9, 21)
    recording = record(live, random_prompts())
    records = detected_records(live, recording, detect(live, recording, SuperWeights()))
    found = artifact("m", records, [], {"prompts": ["one two three"]})
    corpus = pd.DataFrame({"text": ["one two three four five six seven eight nine ten"] * 3})
    state = {"calls": 0, "limit": math.inf}

    def run_out(module, inputs):
        state["calls"] += 1
        if state["calls"] > state["limit"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def run(limit):
        state.update(calls=0, limit=limit)
        settings = SuperWeightVerification(window=20, draws=1, enable_causal_scoring=True)
        verified(live, word_tokenizer(bos=True), found, corpus, NO_OUTLIERS, NO_EFFECTS, settings)
        return state["calls"]

    live.layers[2].register_forward_pre_hook(run_out)
    for limit in range(run(math.inf)):
        with pytest.raises(AtlasError, match="out of memory"):
            run(limit)


def test_the_cost_counts_every_pass(capsys):
    live = anatomy(tiny("llama"))
    windows = own_text(live, windows=2, length=8)
    planned = plan(live, [live.projections[1].coordinate(3, 4)], draws=3, seed=0)
    # The weight, its row and column, the null; seven passes that try its projection, two that measure, and the rest.
    assert cost(live, windows, planned).startswith(f"{3 + 4} variants of 16 tokens and 9 other passes")
    assert "and 14 other passes" in cost(live, windows, planned, passes=4.5)


def test_none_found_goes_through_everything():
    live = anatomy(tiny("llama"))
    windows = own_text(live, windows=2, length=12)
    judged = verify(live, windows, plan(live, [], draws=20, seed=0), DEFAULTS)
    assert judged.verdict == "none found"
    assert len(judged.table) == len(judged.variants) == 0
    assert "nothing to verify" in drawn(figures.verification(judged.table, judged.variants))
    found = artifact("m", [], [], {"prompts": ["one two three"]})
    corpus = pd.DataFrame({"text": ["one two three four five six"] * 9})
    judged, written = verified(
        live, word_tokenizer(bos=True), found, corpus, NO_OUTLIERS, NO_EFFECTS, SuperWeightVerification(window=12)
    )
    assert written["verdict"] == "none found"
    assert written["super_weights"] == written["screened"] == []
    (finding,) = written["findings"]
    assert finding["grade"] == "info"
    assert finding["text"] == (
        "No super weight was found where it was searched. Searched: massive activations of the residual stream, "
        "attributed to MLP output projections; no weight stands out by its size or its first-order effect beside those."
    )
    assert list(judged.table.columns[-2:]) == ["residual_after_all", "found_by"]


def test_one_window_gives_a_verdict_without_an_interval():
    live = anatomy(tiny("llama", sharp=True))
    place = plant(live, 1, 9, 21)
    judged = verify(live, own_text(live, windows=1, length=16), plan(live, [place], draws=5, seed=0), DEFAULTS)
    assert judged.verdict == "critical"
    assert np.isnan(judged.table.delta_nll_low[0])


def test_verified_artifact(capsys):
    live = anatomy(tiny("mixtral", sharp=True))
    plant(live, 1, 9, 21)
    recording = record(live, random_prompts())
    records = detected_records(live, recording, detect(live, recording, SuperWeights()))
    texts = ["one two three", "four five six seven"]
    found = artifact("m", records, [], {"prompts": texts})
    corpus = pd.DataFrame({"text": ["one two three four five six seven eight nine ten"] * 9})
    settings = SuperWeightVerification(window=20, draws=4, enable_causal_scoring=True, corpus="words")
    judged, written = verified(live, word_tokenizer(bos=True), found, corpus, NO_OUTLIERS, NO_EFFECTS, settings)
    (weight,) = written["super_weights"]
    assert weight["impact_natural"] == weight["delta_nll"] == judged.table.delta_nll[0]
    assert weight["impact_interventional"] is not None
    assert weight["residual_before"] == pytest.approx(judged.table.residual_before[0])
    assert weight["residual_before"] > 100 > 1 > weight["residual_after"]
    assert written["verdict"] == judged.verdict
    finding, searched = written["findings"]
    assert "Searched: " in searched["text"]
    grades = {"critical": "critical", "contributing": "notable", "inconclusive": "notable", "inert": "info"}
    assert finding["grade"] == grades[weight["verdict"]]
    assert "Layer 1 expert" in finding["text"]
    assert "variants of" in capsys.readouterr().out
    again, _ = verified(live, word_tokenizer(bos=True), found, corpus, NO_OUTLIERS, NO_EFFECTS, settings)
    pd.testing.assert_frame_equal(judged.table, again.table, check_exact=True)
