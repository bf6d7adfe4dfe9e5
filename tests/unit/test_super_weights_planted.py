"""Would whoever planted it agree? What is said of models in which one scalar matters, wherever it lies."""

import math

import pandas as pd
import pytest
from live_models import drawn, own_text, plant, plant_in_attention, random_prompts, tiny, word_tokenizer

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import load_piece
from weight_atlas.figures import super_weight_verification as figures
from weight_atlas.live import batched_scoring
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.matrices import matrix_at
from weight_atlas.live.scoring import score_windows
from weight_atlas.pages.headline import headline
from weight_atlas.ratios import ratio_of, times
from weight_atlas.settings.super_weights import SuperWeights, SuperWeightVerification, WeightAttribution
from weight_atlas.statistics.paired import mean_nll
from weight_atlas.statistics.severity import severity
from weight_atlas.super_weights import outliers, trials, verdict
from weight_atlas.super_weights.artifact import artifact
from weight_atlas.super_weights.detection import detect, unattributed
from weight_atlas.super_weights.findings import findings as graded
from weight_atlas.super_weights.findings import searched
from weight_atlas.super_weights.found_records import detected_records
from weight_atlas.super_weights.recording import record
from weight_atlas.super_weights.screening import screen
from weight_atlas.super_weights.trials import Trial
from weight_atlas.super_weights.verification import joint_of, judged, overall
from weight_atlas.super_weights.weight_attribution import attribute

CHANNEL, NEURON = 9, 21


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What the chain says of a live model, from detection and screening to findings and headline."""

    def chain(live, **settings):
        live.model.save_pretrained(tmp_path)
        checkpoint = Checkpoint.from_folder(tmp_path)
        screening = screen(inventory(checkpoint), lambda row: load_piece(checkpoint, row), top=8)
        recording = record(live, random_prompts())
        detection = detect(live, recording, SuperWeights())
        prompts, rest = {"prompts": ["one two three"]}, unattributed(detection.steps)
        found = artifact("m", detected_records(live, recording, detection), [], prompts, (), rest)
        # Text that the model itself goes on with, so that harm can be measured on random weights.
        windows = own_text(live, windows=6, length=16)
        monkeypatch.setattr(verdict, "verification_windows", lambda *given, **named: windows)
        how = SuperWeightVerification(**{"score_every": 1, "draws": 5, "removals": 8, **settings})
        effects = attribute(live, windows, WeightAttribution()).table
        _, written = verdict.verified(live, word_tokenizer(bos=True), found, pd.DataFrame(), screening, effects, how)
        table = pd.DataFrame({"layer": [], "row": [], "column": [], "component": []})
        page = headline({"super_weights": {"m.csv": table}, "super_weight_verification": {"m.json": written}})
        return written, dict(page), [(each["grade"], each["text"]) for each in written["findings"]]

    return chain


def test_a_weight_of_the_last_layer_is_found_by_its_size_and_verified(said):
    live = anatomy(tiny("llama", sharp=True))
    place = plant(live, 3, CHANNEL, NEURON)
    written, page, findings = said(live)
    record = written["super_weights"][0]
    assert (record["layer"], record["row"], record["column"]) == (place.layer, place.row, place.col)
    assert (record["verdict"], record["found_by"], written["verdict"]) == ("critical", ["screening"], "critical")
    assert page["super weights"].startswith("layer 3 mlp.down_proj [9, 21] (critical, found by its size)")
    assert findings[0][0] == "critical" and findings[0][1].startswith("Layer 3 [9, 21] is critical")
    (text,) = [text for _, text in findings if "channel 9 at layer 3" in text]
    assert "only after the last layer, where W_down [9, 21] stands out" in text


@pytest.mark.parametrize("source", ["screening", pytest.param("activation", marks=pytest.mark.slow)])
def test_a_weight_of_attention_is_found_by_its_size_or_the_activation_that_it_writes(said, source, monkeypatch):
    if source == "activation":
        monkeypatch.setattr(outliers, "STANDS_OUT", math.inf)
        monkeypatch.setattr(trials, "partners", lambda *given: [])
    live = anatomy(tiny("llama", sharp=True))
    column = plant_in_attention(live, 1, CHANNEL)
    written, page, findings = said(live)
    record = written["super_weights"][0]
    assert (record["role"], record["layer"], record["row"], record["column"]) == ("W_O", 1, CHANNEL, column)
    assert (record["verdict"], record["found_by"]) == ("critical", [source])
    # Its removal costs what brute force says.
    matrix, windows = live.layers[1].self_attn.o_proj.weight.data, own_text(live, windows=6, length=16)
    before = score_windows(live, windows, batch_size=6)
    matrix[CHANNEL, column] = 0
    after = score_windows(live, windows, batch_size=6)
    assert record["delta_nll"] == pytest.approx(mean_nll(after) - mean_nll(before), rel=1e-4)
    at = f"layer 1 W_O self_attn.o_proj [9, {column}]"
    how = "its size" if source == "screening" else "what writes an activation"
    assert page["super weights"].startswith(f"{at} (critical, found by {how})")
    assert findings[0][1].startswith(f"L{at[1:]} is critical")
    (text,) = [text for _, text in findings if "channel 9 at layer 1" in text]
    assert "born in attention" in text


@pytest.mark.parametrize("role", ["W_down", pytest.param("W_O", marks=pytest.mark.slow)])
def test_a_bias_that_writes_a_massive_activation_is_named(said, role):
    live = anatomy(tiny("gpt2", sharp=True))
    block = live.layers[1]
    (block.mlp if role == "W_down" else block.attn).c_proj.bias.data[CHANNEL] = 300.0
    written, _, findings = said(live)
    (record,) = [each for each in written["super_weights"] if each["role"] == f"{role}.bias"]
    assert (record["layer"], record["row"], record["verdict"]) == (1, CHANNEL, "critical")
    (text,) = [text for _, text in findings if f"channel {CHANNEL} at layer 1" in text]
    assert ("written by a bias" if role == "W_down" else "born in attention") in text
    assert f"where {role}.bias [{CHANNEL}] stands out" in text and text.count("stands out") == 1


def test_a_weight_of_the_embedding_is_found(said):
    live = anatomy(tiny("llama", sharp=True))
    live.model.get_input_embeddings().weight.data[1, CHANNEL] = 300.0
    written, _, findings = said(live)
    record = written["super_weights"][0]
    assert (record["role"], record["row"], record["column"], record["verdict"]) == ("W_E", 1, CHANNEL, "critical")
    (text,) = [text for _, text in findings if "channel 9 at the embedding" in text]
    assert "born in the embedding" in text


@pytest.mark.slow
def test_a_weight_that_another_balances_is_found_by_its_size_and_the_gain_behind_it_as_its_partner(said):
    """Two constants cancel in the logit of one token, so that no loss depends on either to first order."""
    live = anatomy(tiny("llama", sharp=True))
    live.model.get_input_embeddings().weight.data[:, 40:42] = 0.02
    for layer in live.layers:
        layer.self_attn.o_proj.weight.data[40:42] = layer.mlp.down_proj.weight.data[40:42] = 0.0
    head = live.model.get_output_embeddings().weight.data
    head[:, 40:42], head[7, 40], head[7, 41] = 0.0, 300.0, -300.0
    written, page, findings = said(live)
    told = {each["place"]: each for each in written["super_weights"]}
    head, gain = told["W_U lm_head [7, 41]"], told["norm model.norm [41]"]
    assert (head["found_by"], gain["found_by"]) == (["screening"], ["partner"])
    # The same change does as much harm in many other places of a head; that it is catastrophic is said all the same.
    assert head["verdict"] in ("critical", "harmful but not special") and head["severity"] == "catastrophic"
    assert gain["verdict"] == "critical" and gain["delta_nll"] == pytest.approx(head["delta_nll"], rel=1e-4)
    assert "norm model.norm [41] (critical, found beside a harmful weight)" in page["super weights"]
    assert "that harmful or detected weights work through, removed one at a time" in findings[-1][1]


@pytest.mark.slow
def test_twelve_weights_that_share_an_activation_are_found_as_a_set(said):
    live = anatomy(tiny("llama", sharp=True))
    for column in range(20, 32):
        plant(live, 1, CHANNEL, column, write=25.0)
    written, page, findings = said(live)
    group = written["sets"][0]
    assert group["line"] == "layer 1 mlp.down_proj [9, :]" and not group["whole"]
    assert set(group["places"]) == {f"layer 1 mlp.down_proj [9, {column}]" for column in range(20, 32)}
    assert group["single"] < 0.1 < 5 < group["delta_nll"] and group["exceed_share"] == 0
    assert "12 weights of layer 1 mlp.down_proj [9, :] together" in page["super weights"]
    (text,) = [text for grade, text in findings if text.startswith("12 weights of layer 1")]
    assert "are critical together" in text and "of 40 random sets" in text and "none does as much harm" in text


def test_a_decoy_is_called_one(said):
    live = anatomy(tiny("llama", sharp=True))
    embedding, model = live.model.get_input_embeddings().weight.data, live.model.model
    # A direction that only the first token has, and no later token is predicted to be that one.
    embedding[:, 40], embedding[1, 40] = 0.0, 1.0
    live.model.get_output_embeddings().weight.data[1] = 0.0
    for layer in model.layers[:2]:
        layer.self_attn.o_proj.weight.data[40] = layer.mlp.down_proj.weight.data[40] = 0.0
    mlp = model.layers[1].mlp
    for matrix in (mlp.gate_proj.weight.data, mlp.up_proj.weight.data):
        matrix[NEURON], matrix[NEURON, 40] = 0.0, 1.0
    mlp.down_proj.weight.data[:, NEURON] *= 0.01
    mlp.down_proj.weight.data[CHANNEL, NEURON] = 8.0
    # Nothing downstream carries what is at the first token on to the others.
    for layer in live.layers[2:]:
        layer.self_attn.o_proj.weight.data.zero_()
    written, page, findings = said(live, removals=0)
    assert written["verdict"] == "not confirmed"
    assert page["decoys: massive activations, removal harmless"] == "layer 1 mlp.down_proj [9, 21]"
    assert page["super weights"].startswith("none found where it was searched")
    assert findings[0] == ("info", findings[0][1]) and "is a decoy" in findings[0][1]


def test_more_than_709_nats_are_a_number_and_a_sentence(said):
    live = anatomy(tiny("llama", sharp=True))
    plant(live, 1, CHANNEL, NEURON)
    live.model.get_output_embeddings().weight.data *= 1000
    written, _, findings = said(live, removals=0)
    (record,) = written["super_weights"]
    assert record["delta_nll"] > 710 and record["verdict"] == "critical"
    power = round(record["delta_nll"] / 2.302585)
    assert f"multiplies perplexity on the verification text by 10^{power}" in findings[0][1]


def test_a_healthy_model_pays_for_a_few_removals_at_most(said):
    written, _, findings = said(anatomy(tiny("llama", sharp=True)))
    assert not any(each["found_by"] == "screening" for each in written["screened"]) and not written["sets"]
    assert not any(grade == "critical" for grade, _ in findings) and "critical" not in written["verdict"]


def test_the_largest_outliers_are_tried_and_the_rest_is_counted(said):
    live = anatomy(tiny("llama", sharp=True))
    for number in range(5):
        matrix = matrix_at(live, live.projections[number % 4].coordinate(0, 0))
        matrix[number, number] = matrix.abs().max() * (4 + number)
    written, _, findings = said(live, removals=7)
    tried = pd.DataFrame(written["screened"])
    assert (tried.found_by == "partner").sum() <= 3
    tried = tried[tried.found_by != "partner"]
    by_size = tried[tried.found_by == "screening"]
    assert len(tried) == 7 and len(by_size) == 4 and by_size["size"].is_monotonic_decreasing
    assert "not tried were 1 by their size and" in findings[-1][1]
    assert (by_size["size"] >= 2 * by_size.gaussian_size).all()
    effects = tried[tried.found_by == "attribution"]
    assert (effects.effect.abs() > effects.random_p99).all()


def test_outliers_that_nobody_tries_are_not_said_to_be_none(said):
    live = anatomy(tiny("llama", sharp=True))
    plant(live, 3, CHANNEL, NEURON)
    _, _, findings = said(live, removals=0)
    # Beside the planted weight the four largest that make its neuron fire.
    assert "not tried were 5 by their size and" in findings[-1][1]


@pytest.mark.slow
def test_an_outlier_whose_harm_is_uncertain_is_verified_and_not_passed_over(said):
    live = anatomy(tiny("llama", sharp=True))
    for projection in live.projections:
        projection.matrix(None)[3, 4], projection.matrix(None)[3, 5] = 5.0, -5.0
    written, page, findings = said(live)
    tried = pd.DataFrame(written["screened"])
    doubtful = tried[(tried.ratio >= 1.1) & (tried.delta_nll_low <= 0) & (tried.kind == "element")]
    assert len(doubtful)
    told = {(each["role"], each["layer"], each["row"], each["column"]): each["verdict"]
            for each in written["super_weights"]}  # fmt: skip
    assert {(row.role, row.layer, row.row, row.column) for row in doubtful.itertuples()} <= told.keys()
    assert "inconclusive" in told.values() and "(inconclusive, found by its size)" in page["super weights"]
    assert any("may matter" in text for _, text in findings)


def test_weights_that_are_harmless_alone_and_not_together_are_no_decoys():
    rows = pd.DataFrame({"candidate": pd.array([pd.NA, 0, 0, 0, 1, 1, 1], dtype="Int64"),
                         "kind": ["joint", "single", "row", "column", "single", "row", "column"],
                         "delta_nll": [0.3, 0.02, 0.02, 0.02, 0.03, 0.03, 0.03]})  # fmt: skip
    rows = rows.assign(delta_nll_low=rows.delta_nll - 0.01, delta_nll_high=rows.delta_nll + 0.01, ratio=1.0, harm_p=0.0)
    rows = pd.concat([rows.assign(severity="minimal"), rows[:0]])
    kept = pd.DataFrame([{**rows.iloc[1].to_dict(), "kind": "kept", "candidate": n, "delta_nll": 0.29} for n in (0, 1)])
    rows = pd.concat([rows, kept])
    bands = (1.5, 1.1)
    joint = joint_of(rows, bands)
    places = [Coordinate(1, 9, n, component="mlp.down_proj") for n in (20, 21)]
    table = pd.DataFrame([judged(rows, n, place, 0.5, joint, bands, 0.0) for n, place in enumerate(places)])
    assert table.verdict.tolist() == ["inert", "inert"] and overall(table, joint) == "mild"
    table["found_by"] = "contribution"
    told = [each["text"] for each in graded("mild", table, {"weights": 2, "delta_nll": 0.3})]
    assert told[0].startswith("All 2 candidates") and not any("decoy" in text for text in told)
    assert sum("harmless to remove alone, but not with the others" in text for text in told) == 2
    records = [{**row, "expert_id": None, "found_by": ["contribution"]} for row in table.to_dict("records")]
    written = {"super_weights": records, "verdict": "mild"}
    found = pd.DataFrame({"layer": [], "row": [], "column": [], "component": []})
    page = dict(headline({"super_weights": {"m.csv": found}, "super_weight_verification": {"m.json": written}}))
    assert page == {"super weights": "2 weights, mild together only: layer 1 mlp.down_proj [9, 20]; "
                                     "layer 1 mlp.down_proj [9, 21]"}  # fmt: skip


def test_a_set_without_any_single_weight_is_told_alone():
    group = {"line": "layer 1 mlp.down_proj [9, :]", "places": ["a", "b"], "whole": False}
    written = {"super_weights": [], "verdict": "critical", "sets": [group]}
    found = pd.DataFrame({"layer": [], "row": [], "column": [], "component": []})
    page = dict(headline({"super_weights": {"m.csv": found}, "super_weight_verification": {"m.json": written}}))
    assert page == {"super weights": "2 weights of layer 1 mlp.down_proj [9, :] together"}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_losses_that_are_not_finite_are_drawn_and_not_called_minimal(loss):
    row = {"layer": 1, "row": 9, "column": 21, "role": "W_down", "component": "", "expert": pd.NA}
    row["verdict"] = "critical"
    table = pd.DataFrame([{**row, "delta_nll": loss, "neuron_delta_nll": loss, "kept_delta_nll": loss}])
    variants = pd.DataFrame({"kind": ["baseline", "single", "neuron"], "candidate": [pd.NA, 0, 0],
                             "delta_nll": [0.0, loss, loss]})  # fmt: skip
    assert "What removing super weights costs" in drawn(figures.verification(table, variants))
    assert severity(ratio_of(loss)) == ("catastrophic" if loss > 0 else "not finite")
    tried = pd.DataFrame(
        {"layer": [0, 1], "row": [1, 1], "column": [2, 2], "delta_nll": [0.1, loss], "found_by": "screening"}
    )
    text = searched("critical", Trial(tried, (), (), {}), [], 0)[-1]["text"]
    assert f"perplexity times {times(loss)} at most" in text


def test_a_weight_without_which_there_are_no_numbers_is_critical(said):
    """Logits of bfloat16 and float16 overflow; here a channel that the weight holds down does."""
    live = anatomy(tiny("llama", sharp=True))
    place = plant(live, 1, CHANNEL, NEURON)
    scored, at = batched_scoring.variant_logits, {}

    def overflowing(live, window, variants, *given, **settings):
        for number, part, logits in scored(live, window, variants, *given, **settings):
            without = number >= 0 and any(edit.coordinate == place for edit in variants[number])
            at[number] = without
            yield number, part, logits * float("nan") if without else logits

    batched_scoring.variant_logits = overflowing
    try:
        written, _, findings = said(live, removals=0)
    finally:
        batched_scoring.variant_logits = scored
    (record,) = written["super_weights"]
    assert at[-1] is False and any(at.values())
    assert (record["verdict"], record["delta_nll"], record["severity"]) == ("critical", math.inf, "catastrophic")
    assert "multiplies perplexity on the verification text by an infinite number" in findings[0][1]


def test_an_own_effect_is_not_compared_where_a_weight_counts_among_others():
    row = {"layer": 1, "row": 9, "column": 20, "role": "W_down", "component": "", "expert": pd.NA,
           "verdict": "contributing", "delta_nll": 0.015, "null_draws": 5, "null_median": 0.0, "shift_draws": 5,
           "shift_median": 0.02, "exceed_share": 0.2, "special": "undecided", "found_by": "contribution"}  # fmt: skip
    for rescue, compared in ((15.4, False), (0.001, True), (float("nan"), True)):
        (told,) = graded("contributing", pd.DataFrame([{**row, "rescue": rescue}]), None)
        assert ("of 5 random places for the same change 1 does as much harm" in told["text"]) == compared


@pytest.mark.parametrize("channels", [1, 4, 7])
def test_channels_of_one_origin_are_told_together(channels):
    rest = [{"layer": -1, "channel": n, "ratio": 90.0 - n, "token": "x", "reason": "born in the embedding"}
            for n in range(channels)]  # fmt: skip
    nothing = Trial(pd.DataFrame(), (), (), {})
    text = searched("none found", nothing, rest, 0)[0]["text"]
    assert {1: "channel 0 at the embedding (90 times", 4: "channels 0, 1, 2, 3 at the embedding (up to 90 times",
            7: "channels 0, 1, 2, 3 and 3 more at the embedding (up to 90 times"}[channels] in text  # fmt: skip
