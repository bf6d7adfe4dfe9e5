"""Verdicts: planted weights are critical on every layout, sets count together, large inert weights do not."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import LAYOUTS, drawn, own_text, plant, random_prompts, tiny, word_tokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.figures import super_weight_verification as figures
from weight_atlas.interventions.controls import matched_draws, random_places
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.experts import forced_routing
from weight_atlas.live.matrices import matrix_at
from weight_atlas.settings.super_weights import SuperWeights, SuperWeightVerification
from weight_atlas.super_weights.artifact import artifact, detected_records
from weight_atlas.super_weights.causal import interventional_impacts, residual_after
from weight_atlas.super_weights.detection import detect
from weight_atlas.super_weights.findings import findings
from weight_atlas.super_weights.recording import record
from weight_atlas.super_weights.screening import COLUMNS as SCREENED
from weight_atlas.super_weights.sets import Search, grown
from weight_atlas.super_weights.verdict import verified
from weight_atlas.super_weights.verification import (
    Harm,
    Joint,
    Null,
    among_others,
    discovery_rates,
    joint_of,
    judged,
    verdict_of,
    verify,
)
from weight_atlas.super_weights.verification_plan import cost, plan, random_ratio
from weight_atlas.super_weights.weight_attribution import COLUMNS as ATTRIBUTED

DEFAULTS = SuperWeightVerification()

NO_OUTLIERS, NO_EFFECTS = pd.DataFrame(columns=list(SCREENED)), pd.DataFrame(columns=list(ATTRIBUTED), dtype=float)


@pytest.mark.parametrize("layout", LAYOUTS)
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


def judged_by(delta, rate=0.0, special="yes", bands=(1.5, 1.1)):
    return verdict_of(Harm(delta, rate), special, bands)


def test_what_makes_a_verdict():
    assert judged_by(0.41) == judged_by(0.41, special="undecided") == judged_by(0.41, special="unknown") == "critical"
    assert judged_by(0.41, special="no") == "harmful but not special"
    assert judged_by(0.40) == "special but mild"
    assert judged_by(0.40, special="undecided") == judged_by(0.40, special="no") == "mild"
    assert judged_by(0.41, bands=(1.6, 1.1)) == "special but mild"
    # At least the mild band: an effect that is certain but tiny is none.
    assert judged_by(0.096) == "special but mild" and judged_by(0.095) == "inert"
    assert judged_by(0.096, bands=(1.5, 1.2)) == "inert"
    # A large effect that may be chance is neither proven nor harmless.
    assert judged_by(3.0, rate=0.051) == judged_by(0.096, rate=0.5) == "inconclusive"
    assert judged_by(0.095, rate=0.5) == "inert" and judged_by(3.0, rate=0.05) == "critical"
    # A single window has no interval; a loss that is no number any more is harm enough.
    assert judged_by(3.0, rate=float("nan")) == "critical"
    assert judged_by(float("inf"), float("nan")) == judged_by(float("nan"), float("nan")) == "critical"


def test_what_makes_a_verdict_together():
    def with_others(alone, rescue, joint):
        return among_others(alone, rescue, joint, (1.5, 1.1))

    joint = Joint(4.0, "critical", 0.2)
    assert with_others("inert", 0.41, joint) == with_others("mild", 0.41, joint) == "contributing"
    assert with_others("inert", 0.39, joint) == "inert"
    assert with_others("critical", 0.41, joint) == "critical"
    assert with_others("harmful but not special", 0.41, joint) == "harmful but not special"
    assert with_others("inert", 0.41, Joint(4.0, "inert", 0.2)) == with_others("inert", 0.41, None) == "inert"
    # A draw that happens to be as harmful does not make the weight harmless.
    assert with_others("inert", 0.41, Joint(4.0, "critical", 4.5)) == "contributing"
    # A tenth of a small effect is less than the mild band.
    assert with_others("inert", 0.08, Joint(0.5, "critical", 0.0)) == "inert"
    assert with_others("inert", 0.10, Joint(0.5, "critical", 0.0)) == "contributing"


@pytest.mark.parametrize(("share", "special"), [(0.0, {"yes", "undecided"}), (0.01, {"yes", "undecided"}),
                                                (0.5, {"no", "undecided"}), (1.0, {"no"})])  # fmt: skip
def test_whether_a_weight_is_special_does_not_hang_on_the_number_of_draws_or_their_seed(share, special):
    """Of 12, 50 or 150 draws from a null of which a share does as much harm: undecided at worst, never the opposite."""
    words: dict[int, list[str]] = {draws: [] for draws in (12, 50, 150)}
    for draws, said in words.items():
        for seed in range(20):
            random = np.random.default_rng([seed, draws])
            said.append(Null.of(1.0, pd.Series(np.where(random.random(draws) < share, 2.0, 0.001))).special)
    assert {word for said in words.values() for word in said} <= special
    if share == 0.5:
        assert {*words[50], *words[150]} == {"no"} and words[12].count("undecided") <= 3
    else:
        assert len({judged_by(0.7, special=word) for said in words.values() for word in said}) == 1


def test_a_null_is_a_share_with_its_bounds():
    null = Null.of(1.0, pd.Series([0.1] * 48 + [1.0, 5.0]))
    assert (null.share, null.special) == (0.04, "undecided") and null.low < 0.04 < 0.1 < null.high
    assert Null.of(1.0, pd.Series([0.1] * 50)).special == "yes"
    # A share above the limit is no answer while its bound lies below.
    assert Null.of(1.0, pd.Series([0.1] * 10 + [2.0] * 2)).special == "undecided"
    assert Null.of(1.0, pd.Series([0.1] * 8 + [2.0] * 4)).special == "no"
    assert Null.of(1.0, pd.Series([], dtype=float)).special == "unknown"
    # What leaves no number is as harmful as can be.
    assert Null.of(float("nan"), pd.Series([float("inf")] * 50)).share == 0
    assert Null.of(float("inf"), pd.Series([float("inf")] * 50)).share == 1
    rates = discovery_rates(np.array([0.01, float("nan"), 0.04, 0.03]))
    assert np.isnan(rates[1]) and rates[[0, 2, 3]] == pytest.approx([0.03, 0.04, 0.04])


def outcome(*rows):
    """Variants as verify makes them: (kind, candidate, delta_nll) each."""
    table = pd.DataFrame(rows, columns=["kind", "candidate", "delta_nll"])
    delta = table.delta_nll
    return table.assign(delta_nll_low=delta, delta_nll_high=delta, ratio=np.exp(delta), severity="", harm_p=0.0)


def test_both_nulls_stand_beside_the_verdict():
    line = [("row", 0, 1.2), ("column", 0, 1.5)]
    single = [("single", 0, 1.0), *line, ("kept", 0, 3.0), ("single", 1, 0.0), ("joint", pd.NA, 4.0)]
    place = Coordinate(1, 2, 3)

    def row(*null, joint=None):
        return judged(outcome(*single, *null), 0, place, 0.5, joint, (1.5, 1.1), 0.0)

    low = row(("random", 0, 0.1), ("random", 0, 0.3), ("random", 1, 9.0), ("shifted", 0, 0.2), ("shifted", 1, 9.0))
    assert low["verdict"] == "critical" and low["p_value"] == pytest.approx(1 / 3)
    assert (low["null_max"], low["null_median"], low["shift_max"], low["shift_draws"]) == (0.3, 0.2, 0.2, 1)
    assert low["exceeds_null"] and low["shift_p_value"] == 0.5
    assert (low["neuron_delta_nll"], low["row_delta_nll"], low["column_delta_nll"]) == (1.5, 1.2, 1.5)
    # Where the same change was made elsewhere, that decides what is special.
    common = row(("random", 0, 0.1), ("shifted", 0, 1.1))
    assert (common["verdict"], common["exceeds_null"]) == ("harmful but not special", False)
    rare = row(("random", 0, 1.1), ("shifted", 0, 0.1))
    assert (rare["verdict"], rare["exceeds_null"]) == ("critical", False)
    assert row(("random", 0, 1.1))["p_value"] == 1
    together = [("random_together", pd.NA, 0.1), ("shifted_together", pd.NA, 0.2)]
    assert joint_of(outcome(*single, *together), (1.5, 1.1)) == Joint(4.0, "critical", 0.2)
    assert joint_of(outcome(*single, *together[:1], ("shifted_together", pd.NA, 4.1)), (1.5, 1.1)) == Joint(
        4.0, "critical", 4.1
    )
    assert joint_of(outcome(*single, ("random_together", pd.NA, 4.1), *together[1:]), (1.5, 1.1)) == Joint(
        4.0, "critical", 4.1
    )
    assert joint_of(outcome(*single), (99.0, 98.0)) == Joint(4.0, "inert", 0.0)
    assert joint_of(outcome(*single[:4]), (1.5, 1.1)) is None
    # All but the second cost 3 of the 4 that all cost: it rescues 1, and alone it does nothing.
    both = outcome(*single, ("row", 1, 0.0), ("column", 1, 0.0), ("kept", 1, 3.0), ("random", 1, 0.1))
    rescued = judged(both, 1, place, 0.5, Joint(4.0, "critical", 0.2), (1.5, 1.1), 1.0)
    assert (rescued["rescue"], rescued["kept_delta_nll"], rescued["verdict"]) == (1.0, 3.0, "contributing")


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


def test_the_same_change_is_made_elsewhere_where_a_weight_has_no_equals():
    live = anatomy(tiny("llama"))
    places = [plant(live, 1, 9, 21), live.projections[2].coordinate(0, 0)]
    matrix = matrix_at(live, places[1])
    matrix[0, 0] = matrix.abs().median()
    planned = plan(live, places, draws=30, seed=0)
    kinds = pd.Series([(one.kind, one.target) for one in planned]).value_counts()
    assert kinds["random", 0] == kinds["random", 1] == kinds["shifted", 0] == 30
    assert ("shifted", 1) not in kinds
    assert kinds["random_together", None] == kinds["shifted_together", None] == 30
    assert random_ratio(planned, 0) < 0.1 and random_ratio(planned, 1) == pytest.approx(1, abs=0.01)
    shifts = [one.change.edits for one in planned if (one.kind, one.target) == ("shifted", 0)]
    assert {edit.offset for (edit,) in shifts} == {-7.5}
    assert all(edit.factor == 1 and edit.coordinate.col != 21 for (edit,) in shifts)
    assert len({edit.coordinate.row for (edit,) in shifts}) > 10 < len({edit.coordinate.col for (edit,) in shifts})


def test_controls_are_the_nearest_in_magnitude():
    live = anatomy(tiny("gpt2"))
    place = live.projections[1].coordinate(3, 4)
    matrix = matrix_at(live, place)
    matrix[3, 4] = -matrix.abs().median()
    drawn = [controls[0] for controls in matched_draws(live, [place], draws=12, seed=0, pool=12)]
    assert len(set(drawn)) == 12
    distance = (matrix.abs() - matrix[3, 4].abs()).abs()
    distance[3, 4] = float("inf")
    nearest = set(distance.flatten().argsort()[:12].tolist())
    assert {each.row * matrix.shape[1] + each.col for each in drawn} == nearest
    # More than the pool: each of them before any of them again.
    more = [controls[0] for controls in matched_draws(live, [place], draws=12, seed=1, pool=50)]
    assert set(more) != set(drawn) and len(set(more)) == 12


def test_two_targets_of_a_matrix_share_no_control():
    live = anatomy(tiny("gpt2"))
    places = [live.projections[1].coordinate(3, 4), live.projections[1].coordinate(5, 6)]
    matrix = matrix_at(live, places[0])
    matrix[3, 4] = matrix[5, 6] = matrix.abs().median()
    drawn = matched_draws(live, places, draws=20, seed=0, pool=40)
    assert len({place for places in drawn for place in places}) == 40
    # None is left for the second: then they are drawn again.
    assert len(matched_draws(live, places, draws=40, seed=0, pool=40)) == 40


def test_zeros_are_no_controls_and_a_matrix_of_zeros_gives_none():
    live = anatomy(tiny("llama"))
    place, other = live.projections[1].coordinate(9, 21), live.projections[2].coordinate(1, 1)
    matrix = matrix_at(live, place)
    matrix[:] = 0
    matrix[9, 21], matrix[3, 3], matrix[4, 4] = 0.001, 5.0, 6.0
    assert {controls[0] for controls in matched_draws(live, [place], draws=9, seed=0)} == {
        replace(place, row=3, col=3),
        replace(place, row=4, col=4),
    }
    matrix[3, 3] = matrix[4, 4] = 0
    assert matched_draws(live, [place, other], draws=9, seed=0) == []
    judged = verify(
        live,
        own_text(live, windows=2, length=8),
        plan(live, [place, other], draws=9, seed=0),
        DEFAULTS,
    )
    assert judged.table.null_draws.tolist() == [0, 9]
    assert judged.table.null_max.isna().tolist() == judged.table.p_value.isna().tolist() == [True, False]
    # The same change elsewhere needs no equals.
    assert judged.table.shift_draws.tolist()[0] == 9


def test_a_candidate_is_never_a_control_however_it_is_written():
    live = anatomy(tiny("llama"))
    plant(live, 1, 9, 21)
    matrix_at(live, live.projections[1].coordinate(0, 0))[9, 35] = 7.4
    for candidates in ([Coordinate(1, 9, 21), live.projections[1].coordinate(9, 35)], [Coordinate(1, 9, 21)] * 2):
        for controls in matched_draws(live, candidates[:1], draws=100, seed=0, pool=1, never=candidates):
            assert {(each.row, each.col) for each in controls}.isdisjoint((each.row, each.col) for each in candidates)
    # Two layers that read one tensor.
    live.layers[2].mlp.down_proj.weight = live.layers[1].mlp.down_proj.weight
    live = anatomy(live.model)
    (drawn,) = matched_draws(live, [Coordinate(1, 9, 21)], draws=1, seed=0, pool=1, never=[Coordinate(2, 9, 35)])
    assert (drawn[0].row, drawn[0].col) != (9, 35)


def test_random_places_avoid_the_candidates_neurons():
    live = anatomy(tiny("mixtral"))
    expert = next(p for p in live.projections if p.layer == 1)
    targets = [expert.coordinate(9, 21, 2), expert.coordinate(4, 22, 3)]
    never = [expert.coordinate(0, col, 2) for col in range(20)]
    drawn = random_places(live, targets, draws=40, seed=0, never=never)
    assert len(drawn) == 40
    assert {places[0].col for places in drawn}.isdisjoint({*range(20), 21}) and {
        places[0].expert for places in drawn
    } == {2}
    assert 22 not in {places[1].col for places in drawn} and {places[1].col for places in drawn} & set(range(20))
    assert random_places(live, targets, draws=40, seed=0, never=never) == drawn
    everything = [expert.coordinate(0, col, 2) for col in range(expert.shape[1])]
    assert random_places(live, targets, draws=3, seed=0, never=everything) == []


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


def test_residual_after_removal():
    live = anatomy(tiny("gpt2"))
    places = [plant(live, 1, 9, 21), plant(live, 2, 33, 5, write=500)]
    peaks = residual_after(live, random_prompts(), places)
    assert peaks[0]["residual_before"] == pytest.approx(300, rel=0.01)
    assert peaks[1]["residual_before"] == pytest.approx(500, rel=0.01)
    assert all(peak["residual_after"] < 5 and peak["residual_after_all"] < 5 for peak in peaks)


@pytest.mark.parametrize("layout", ["mixtral", "gpt_oss", "llama4_text", "dbrx", "deepseek_v3"])
def test_forced_routing_sends_every_token_to_the_expert(layout):
    from weight_atlas.live.experts import routing_of

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
    judged = verify(live, windows, plan(live, [unseen], draws=0, seed=0), DEFAULTS)
    assert judged.table.delta_nll[0] == 0
    assert judged.table.verdict[0] == "inert"
    assert abs(interventional_impacts(live, windows, [unseen], batch_size=4)[0]) > 0
    handle.remove()


def test_findings_are_graded_and_the_gravest_come_first():
    rows = {"layer": 1, "row": 7, "column": [3, 4, 5, 6, 8], "role": "W_down", "component": "", "expert": pd.NA,
            "null_draws": 50, "null_median": 1e-4, "shift_draws": [0, 50, 0, 9, 0],
            "shift_median": [0.01, 0.001, 0.01, 900.0, 0.01], "exceed_share": [0.5, 0.0, 0.0, 4 / 9, 0.02],
            "special": ["no", "yes", "yes", "undecided", "yes"], "found_by": ["contribution"] * 4 + ["screening"],
            "delta_nll": [0.7, math.log(5614), 0.0198, 295.739, 0.01],
            "harm_q": [0.3, 0.0, 0.01, 0.0, 0.01],
            "rescue": [float("nan"), float("nan"), 3.25, float("nan"), float("nan")]}  # fmt: skip
    table = pd.DataFrame(rows)
    table["verdict"] = ["inconclusive", "critical", "contributing", "critical", "inert"]
    found = findings("critical", table, {"weights": 4, "delta_nll": math.log(6000), "null_max": 0.1})
    assert [finding["grade"] for finding in found] == ["critical", "critical", "critical", "notable", "notable", "info"]
    assert found[0]["text"] == (
        "Layer 1 [7, 4] is critical: set to zero it multiplies perplexity on the verification text by 5,614; of 50 "
        "random places for the same change none does as much harm."
    )
    assert found[1]["text"] == (
        "Layer 1 [7, 6] is critical: set to zero it multiplies perplexity on the verification text by 10^128; of 9 "
        "random places for the same change 4 do as much harm, too few to say whether it is special."
    )
    assert found[2]["text"].endswith("multiply perplexity by 6,000, the worst of their random controls by 1.105.")
    assert found[3]["text"].startswith("Layer 1 [7, 3] may matter: set to zero it multiplies perplexity")
    assert found[3]["text"].endswith("but that may be chance (false discovery rate 0.3): more text would tell.")
    assert found[4]["text"].endswith("it undoes 3.25 nats per token of what removing all costs.")
    assert [each["null_value"] for each in found] == [0.001, 900.0, 0.1, 1e-4, 1e-4, 1e-4]
    assert (
        found[0]["place"] == "Layer 1 [7, 4]"
        and found[0]["value"] == math.log(5614)
        and "never prune" in found[0]["remedy"]
    )
    assert found[5]["text"].startswith(
        "Layer 1 [7, 8] is inert: it stood out in the trial, but removing it is harmless"
    )
    assert "All 4 candidates" in found[2]["text"]


def test_weights_that_matter_together_are_found_as_the_fewest_of_their_row():
    live = anatomy(tiny("llama", sharp=True))
    for column in range(20, 32):
        plant(live, 1, 9, column, write=25.0)
    line, bystander = live.projections[1].coordinate(9, None), live.projections[3].coordinate(2, None)
    search = Search(live, own_text(live, windows=6, length=16), ratio=1.5, seed=0, batch_size=16)
    (found,) = grown(search, [line, bystander], [])
    assert found.line == line and {place.col for place in found.places} <= set(range(20, 32)) and not found.whole
    assert 2 <= len(found.places) <= 12 and found.ratio >= 1.5 > math.exp(found.single)
    assert found.delta_nll >= 0.5 * found.line_delta_nll and found.exceed_share == 0 and found.draws == 40
    # A row whose harm a known weight explains is not taken apart.
    assert grown(search, [line], [live.projections[1].coordinate(9, 25)]) == []


def test_one_weight_of_a_row_is_a_set_of_one():
    live = anatomy(tiny("llama", sharp=True))
    place = plant(live, 1, 9, 21)
    search = Search(live, own_text(live, windows=6, length=16), ratio=1.5, seed=0, batch_size=16)
    (found,) = grown(search, [replace(place, col=None)], [])
    assert found.places == (place,)
