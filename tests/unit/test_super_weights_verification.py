"""Verdicts: planted weights are critical on every layout, sets count together, large inert weights do not."""

import numpy as np
import pandas as pd
import pytest
import torch
from lm_models import LAYOUTS, drawn, own_text, plant, random_prompts, tiny, word_tokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.figures import super_weight_verification as figures
from weight_atlas.lm.anatomy import Coordinate, anatomy
from weight_atlas.lm.forcing import forced_routing
from weight_atlas.lm.places import matrix_at
from weight_atlas.super_weights.aftermath import interventional_impact, residual_after
from weight_atlas.super_weights.artifact import artifact, detected_records
from weight_atlas.super_weights.detection import detect
from weight_atlas.super_weights.findings import findings
from weight_atlas.super_weights.recording import record
from weight_atlas.super_weights.verdict import verified
from weight_atlas.super_weights.verification import plan, verify


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_planted_weight_is_critical(layout):
    live = anatomy(tiny(layout, sharp=True))
    place = plant(live, 1, 9, 21)
    before = {name: parameter.clone() for name, parameter in live.model.named_parameters()}
    windows = own_text(live, windows=6, length=16)
    planned = plan(live, [place], draws=10, seed=0)
    controls = [edits[0].coordinate for kind, _, edits in planned.variants if kind == "random"]
    assert len(set(controls)) == 10
    assert place not in controls
    judged = verify(live, windows, planned)
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
    judged = verify(live, windows, plan(live, [*places, inert], draws=20, seed=0))
    table = judged.table
    assert table.verdict.tolist()[2] == "inert"
    assert set(table.verdict[:2]) <= {"critical", "contributing"}
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
    judged = verify(live, windows, plan(live, places, draws=20, seed=0), critical_ratio=3.0)
    joint = judged.variants[judged.variants.kind == "joint"].iloc[0]
    assert joint.delta_nll > 5 * judged.table.delta_nll.max()
    assert judged.verdict in ("critical", "critical together")
    assert (judged.table.rescue > 0).all()


def test_none_found_goes_through_everything():
    live = anatomy(tiny("llama"))
    windows = own_text(live, windows=2, length=12)
    judged = verify(live, windows, plan(live, [], draws=20, seed=0))
    assert judged.verdict == "none found"
    assert len(judged.table) == len(judged.variants) == 0
    assert "nothing to verify" in drawn(figures.verification(judged.table, judged.variants))
    found = artifact("m", [], [], {"prompts": ["one two three"]})
    corpus = pd.DataFrame({"text": ["one two three four five six"] * 9})
    judged, written = verified(live, word_tokenizer(bos=True), found, corpus, window=12)
    assert written["verdict"] == "none found"
    assert written["super_weights"] == []
    assert [finding["grade"] for finding in written["findings"]] == ["info"]
    assert judged.table.columns[-1] == "residual_after_all"


def test_one_window_gives_a_verdict_without_an_interval():
    live = anatomy(tiny("llama", sharp=True))
    place = plant(live, 1, 9, 21)
    judged = verify(live, own_text(live, windows=1, length=16), plan(live, [place], draws=5, seed=0))
    assert judged.verdict == "critical"
    assert np.isnan(judged.table.delta_nll_low[0])


def test_verified_artifact(capsys):
    live = anatomy(tiny("mixtral", sharp=True))
    plant(live, 1, 9, 21)
    recording = record(live, random_prompts())
    records = detected_records(live, recording, detect(live, recording))
    texts = ["one two three", "four five six seven"]
    found = artifact("m", records, [], {"prompts": texts})
    corpus = pd.DataFrame({"text": ["one two three four five six seven eight nine ten"] * 9})
    settings = {"window": 20, "draws": 4, "enable_causal_scoring": True, "corpus": "words"}
    judged, written = verified(live, word_tokenizer(bos=True), found, corpus, **settings)
    (weight,) = written["super_weights"]
    assert weight["impact_natural"] == weight["delta_nll"] == judged.table.delta_nll[0]
    assert weight["impact_interventional"] is not None
    assert weight["residual_before"] == pytest.approx(judged.table.residual_before[0])
    assert weight["residual_before"] > 100 > 1 > weight["residual_after"]
    assert written["verdict"] == judged.verdict
    (finding,) = written["findings"]
    assert finding["grade"] == {"critical": "critical", "contributing": "notable", "inert": "info"}[weight["verdict"]]
    assert "Layer 1 expert" in finding["text"]
    assert "variants of" in capsys.readouterr().out
    again, _ = verified(live, word_tokenizer(bos=True), found, corpus, **settings)
    pd.testing.assert_frame_equal(judged.table, again.table, check_exact=True)


def test_residual_after_removal():
    live = anatomy(tiny("gpt2"))
    places = [plant(live, 1, 9, 21), plant(live, 2, 33, 5, write=500)]
    peaks = residual_after(live, random_prompts(), places)
    assert peaks[0]["residual_before"] == pytest.approx(300, rel=0.01)
    assert peaks[1]["residual_before"] == pytest.approx(500, rel=0.01)
    assert all(peak["residual_after"] < 5 and peak["residual_after_all"] < 5 for peak in peaks)


@pytest.mark.parametrize("layout", ["mixtral", "gpt_oss", "llama4_text", "dbrx", "deepseek_v3"])
def test_forced_routing_sends_every_token_to_the_expert(layout):
    from weight_atlas.lm.experts import routing_of

    live = anatomy(tiny(layout))
    projection, seen = next(p for p in live.projections if p.stacked), []
    ids = random_prompts().ids

    def look(module, inputs, keywords):
        seen.append(routing_of(projection, inputs, keywords))

    def run():
        handle = projection.container.register_forward_pre_hook(look, with_kwargs=True)
        live.model(ids)
        handle.remove()
        return seen[-1]

    natural = run()
    for expert in range(4):
        with forced_routing(projection, expert):
            forced = run()
        assert (forced.index == expert).any(1).all()
        chosen = (natural.index == expert).any(1)
        if not natural.scaled:
            assert torch.equal(forced.index[chosen], natural.index[chosen])
            assert torch.equal(forced.weight, natural.weight)
        assert len(set(forced.index[0].tolist())) == forced.index.shape[1]
    assert torch.equal(run().index, natural.index)
    with pytest.raises(AtlasError, match="no router"), forced_routing(anatomy(tiny("llama")).projections[0], 0):
        pass


def test_forced_impact_sees_an_expert_that_the_router_never_chooses():
    live = anatomy(tiny("mixtral", sharp=True))
    place = plant(live, 1, 9, 21)
    windows = own_text(live, windows=4, length=12)
    silent = next(expert for expert in range(4) if expert != place.expert)
    router = live.layers[1].mlp.gate
    handle = router.register_forward_hook(
        lambda module, inputs, output: (
            output[0],
            output[1],
            torch.where(output[2] == silent, (silent + 1) % 4, output[2]),
        )
    )
    down = live.projection(place).matrix(silent)
    down[:, 21] = 0
    down[9, 21] = 50.0
    unseen = Coordinate(1, 9, 21, silent, component=place.component)
    judged = verify(live, windows, plan(live, [unseen], draws=0, seed=0))
    assert judged.table.delta_nll[0] == 0
    assert judged.table.verdict[0] == "inert"
    assert abs(interventional_impact(live, windows, unseen, batch_size=4)) > 0
    handle.remove()


def test_findings_are_graded_and_the_gravest_come_first():
    rows = {"layer": 1, "row": 7, "column": [3, 4, 5], "expert": pd.NA, "null_draws": 50, "null_max": 1e-4}
    table = pd.DataFrame({**rows, "ratio": [1.0, 5614.0, 1.02], "verdict": ["inert", "critical", "contributing"]})
    found = findings("critical", table, {"weights": 3, "ratio": 6000.0})
    assert [finding["grade"] for finding in found] == ["critical", "critical", "notable", "info"]
    assert found[0]["text"] == (
        "Layer 1 [7, 4] is critical: set to zero it multiplies perplexity by 5,614, "
        "the worst of 50 random weights by 1."
    )
    assert "All 3 super weights" in found[1]["text"]
