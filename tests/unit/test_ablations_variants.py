"""What an ablation of the configuration does to the weights, and that nothing of it stays."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import tiny

from weight_atlas.ablations.choices import check_weights
from weight_atlas.ablations.quantization_variants import quantizations
from weight_atlas.ablations.stored_weights import located
from weight_atlas.ablations.variants import Expansion, described, variants_of
from weight_atlas.ablations.window_scores import score_variants
from weight_atlas.errors import AtlasError
from weight_atlas.interventions import changes, measure
from weight_atlas.interventions.intervention import applied
from weight_atlas.interventions.quantized_layers import layer_matrices
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.matrices import matrix_at
from weight_atlas.live.windows import Windows

TARGETS = [Coordinate(1, 5, 9, component="mlp.down_proj"), Coordinate(1, 5, 20, component="mlp.down_proj")]
PROMPT = (1, 50, 60, 70, 80)
ALL = {
    "weights": None, "zero": {}, "each": {}, "scale": {"factors": [0, 0.5, 2]}, "neurons": {}, "restore": {},
    "experts": {}, "random": {"draws": 3, "seed": 1}, "largest": {"count": 4},
    "quantize": {"formats": ["int4"], "granularities": ["tensor", "group:32"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def live():
    return anatomy(tiny("llama"))


def snapshot(live):
    return {name: parameter.clone() for name, parameter in live.model.named_parameters()}


def changed(live, before):
    """Logical places of W_down that differ from before, by layer."""
    places = []
    for name, now in live.model.named_parameters():
        for row, col in (now != before[name]).nonzero().tolist() if now.ndim == 2 else []:
            places.append((int(name.split(".")[2]), row, col))
    return places


def named(variants):
    return {variant.name.partition(": ")[2]: variant for variant in variants}


def test_every_kind_gives_its_variants_and_restores_every_bit(live):
    variants = variants_of("sw", ALL, live, TARGETS, prompt=PROMPT).variants
    assert [variant.kind for variant in variants] == (
        ["zero"]
        + ["each"] * 2
        + ["scale"] * 3
        + ["neurons", "restore"]
        + ["random"] * 3
        + ["largest"]
        + ["quantize"] * 4
    )
    assert len({variant.name for variant in variants}) == len(variants)
    before = snapshot(live)
    for variant in variants:
        with applied(live, variant):
            pass
        assert all(torch.equal(before[name], now) for name, now in live.model.named_parameters()), variant.name


def test_zeroing_reaches_the_weights_together_and_one_by_one(live):
    variants, before = named(variants_of("sw", ALL, live, TARGETS).variants), snapshot(live)
    with applied(live, variants["zeroed"]):
        assert changed(live, before) == [(1, 5, 9), (1, 5, 20)]
        assert live.projections[1].matrix()[5, 9] == 0
    with applied(live, variants[f"only {TARGETS[1]}"]):
        assert changed(live, before) == [(1, 5, 20)]
    with applied(live, variants["x 0.5"]):
        assert live.projections[1].matrix()[5, 9] == before["model.layers.1.mlp.down_proj.weight"][5, 9] / 2
    with applied(live, variants["neurons zeroed"]):
        assert {(layer, col) for layer, _, col in changed(live, before)} == {(1, 9), (1, 20)}
        assert not live.projections[1].matrix()[:, [9, 20]].any()


def test_random_controls_leave_the_targets_alone(live):
    variants, before = variants_of("sw", ALL, live, TARGETS).variants, snapshot(live)
    for variant in [variant for variant in variants if variant.kind == "random"]:
        with applied(live, variant):
            places = changed(live, before)
        assert len(places) == 2 and not {(1, 5, 9), (1, 5, 20)} & set(places)


def test_hand_given_weights_take_the_place_of_detected_ones(live):
    by_hand = {"weights": [{"layer": 2, "row": 1, "col": 3, "expert": None, "component": ""}], "zero": {}}
    (variant,) = variants_of("mine", by_hand, live, TARGETS).variants
    assert variant.change.edits[0].coordinate == Coordinate(2, 1, 3, component="mlp.down_proj")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({"layer": 2, "row": 64, "col": 3}, "lies outside its matrix"),
        ({"layer": 2, "row": 3, "col": 96}, "lies outside its matrix"),
        ({"layer": 4, "row": 3, "col": 9}, "no MLP output projection"),
        ({"layer": 1, "row": 3, "col": 9, "component": "mlp.other"}, "no MLP output projection"),
    ],
)
def test_weights_that_the_model_lacks_are_an_error(live, weight, message):
    with pytest.raises(AtlasError, match=message) as caught:
        variants_of("mine", {"weights": [weight], "zero": {}}, live, [])
    assert "outside" not in message or "64 rows and 96 columns" in caught.value.remedy


def test_without_super_weights_only_plain_quantization_is_left(live):
    variants = variants_of("sw", ALL, live, []).variants
    assert {variant.kind for variant in variants} == {"quantize"}
    assert not any(variant.change.spared for variant in variants)
    assert variants_of("baseline", {}, live, TARGETS).variants[0].kind == "baseline"


def test_a_description_says_all(live):
    expansion = variants_of("sw", ALL, live, TARGETS, prompt=PROMPT)
    records = {variant.kind: described(variant) for variant in expansion.variants}
    assert records["zero"]["edits"] == [{**asdict(place), "factor": 0.0, "offset": 0.0} for place in TARGETS]
    assert records["scale"]["factor"] == 2.0 and records["scale"]["weights"] == records["restore"]["weights"] == 2
    assert [sink["place"] for sink in records["restore"]["restored"]] == [asdict(place) for place in TARGETS]
    assert records["largest"]["largest"] == {"share": 1e-6, "count": 4} and records["largest"]["weights"] > 4
    assert records["largest"]["spared"] == records["quantize"]["spared"] == [asdict(place) for place in TARGETS]
    found = quantizations(json.loads(json.dumps(expansion.description("sw"))))
    assert found == {variant.name: variant.change for variant in expansion.variants if variant.kind == "quantize"}


def test_experts_are_removed_whole():
    live = anatomy(tiny("mixtral"))
    target = [Coordinate(1, 5, 9, 2, component=live.projections[1].component)]
    (variant,) = variants_of("sw", {"experts": {}}, live, target).variants
    with applied(live, variant):
        assert not live.projections[1].matrix(2).any() and live.projections[1].matrix(1).any()


def test_windows_are_scored_under_every_variant(live):
    ids = torch.randint(3, 299, (3, 20), generator=torch.Generator().manual_seed(0))
    scored = torch.ones(ids.shape, dtype=torch.bool)
    scored[:, 0] = False
    expansion = variants_of("sw", {"scale": {"factors": [1, 0]}}, live, TARGETS)
    table, same = score_variants(live, Windows(ids, scored), expansion, batch_size=2)
    assert same == expansion
    with torch.no_grad():
        logits = live.model(input_ids=ids).logits.double()
    expected = -logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2).sum(1)
    assert table.nll[:3].to_numpy() == pytest.approx(expected.numpy(), rel=1e-5)
    assert list(table.variant.unique()) == ["sw: x 1", "sw: x 0"]
    assert (table.nll[3:].to_numpy() != table.nll[:3].to_numpy()).all()
    assert score_variants(live, Windows(ids, scored), Expansion([], []), batch_size=2)[0].empty


def test_a_place_named_twice_counts_once(live, capsys):
    weights = [{"layer": 1, "row": 5, "col": 9}, {"layer": 1, "row": 5, "col": 9, "component": "mlp.down_proj"}]
    (variant,) = variants_of("mine", {"weights": weights, "scale": {"factors": [0.5]}}, live, []).variants
    assert [edit.coordinate for edit in variant.change.edits] == [TARGETS[0]] and variant.change.weights == 1
    assert "1 weights are named twice" in capsys.readouterr().out


def test_names_tell_all_factors_apart(live):
    factors = [0.1, 0.10000001, 1 / 3, 0.3333333, 2, 1e-30]
    names = [variant.name for variant in variants_of("m", {"scale": {"factors": factors}}, live, TARGETS).variants]
    assert len(set(names)) == 6 and names[0] == "m: x 0.1" and names[4] == "m: x 2"


@pytest.mark.parametrize(
    "kind",
    [{"scale": {"factors": [0.5, 0.50]}}, {"quantize": {"formats": ["int8", "int8"], "granularities": ["tensor"]}}],
)
def test_one_variant_twice_is_an_error_before_anything_runs(live, kind):
    with pytest.raises(AtlasError, match="each item once"):
        variants_of("m", kind, live, TARGETS)


def test_what_is_impossible_is_skipped_and_said(live, capsys):
    expansion = variants_of("sw", {"zero": {}, "experts": {}}, live, TARGETS)
    assert [variant.kind for variant in expansion.variants] == ["zero"]
    (skipped,) = expansion.skipped
    assert (skipped.variant, skipped.kind) == ("sw: experts", "experts") and "expert" in skipped.reason
    assert capsys.readouterr().out.count("\n") == 1
    nothing = variants_of("sw", {"zero": {}, "random": {}}, live, [])
    assert not nothing.variants and {each.reason for each in nothing.skipped} == {"no super weights were detected"}
    assert nothing.description("sw")["skipped"][0] == {
        "variant": "sw: zero", "kind": "zero", "reason": "no super weights were detected"
    }  # fmt: skip


def test_neurons_and_experts_by_hand_need_no_row():
    live = anatomy(tiny("mixtral"))
    weights = [{"layer": 1, "expert": 2, "col": 7}]
    (neurons,) = variants_of("m", {"weights": weights, "neurons": {}}, live, []).variants
    before = snapshot(live)
    with applied(live, neurons):
        assert not live.projections[1].matrix(2)[:, 7].any()
    assert all(torch.equal(before[name], now) for name, now in live.model.named_parameters())
    weights = [{"layer": 1, "expert": 2}, {"layer": 1, "expert": 2, "row": None}]
    (experts,) = variants_of("m", {"weights": weights, "experts": {}}, live, []).variants
    assert len(experts.change.edits) == 1
    with pytest.raises(AtlasError, match="zero needs a row, a col or a head"):
        variants_of("m", {"weights": weights, "experts": {}, "zero": {}}, live, [])
    with pytest.raises(AtlasError, match="neurons needs the col"):
        check_weights({"weights": weights, "neurons": {}}, "here")
    with pytest.raises(AtlasError, match="has 4 experts"):
        variants_of("m", {"weights": [{"layer": 1, "expert": 4}], "experts": {}}, live, [])


def inventory(**columns):
    table = {
        "role": "W_down",
        "of_role": "",
        "stack": "decoder",
        "component": "",
        "tensor": "",
        "layer": [0, 1, 1],
        "expert": [None, 0, 1],
        "rows": 64,
        "cols": [96, 40, 40],
    }
    return pd.DataFrame({**table, **columns}).astype({"layer": "Int64", "expert": "Int64"})


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({"layer": 2, "row": 1, "col": 1}, "there is no layer 2"),
        ({"layer": 1, "row": 64, "col": 1}, "row 64 lies outside W_down in layer 1"),
        ({"layer": 1, "row": 1, "col": 40}, "col 40 lies outside W_down in layer 1"),
        ({"layer": 1, "row": 1, "col": 1, "expert": 2}, "there is no expert 2"),
    ],
)
def test_the_inventory_tells_impossible_weights_before_a_model_is_loaded(weight, message):
    with pytest.raises(AtlasError, match=message):
        located({"weights": [weight]}, inventory(), "here")
    located({"weights": [{"layer": 1, "row": 63, "col": 39, "expert": 1}]}, inventory(), "here")
    located({"weights": [{"layer": 0, "col": 95, "expert": 0, "row": None}]}, inventory(), "here")
    located({"weights": None}, inventory(), "here")
    located({"weights": [weight]}, inventory(role="other"), "here")


@pytest.mark.parametrize("layout", ["llama", "gpt2", "mixtral", "olmoe", "gpt_oss", "deepseek_v2"])
def test_the_largest_others_go_from_every_matrix_and_targets_stay(layout):
    live = anatomy(tiny(layout))
    projection = live.projections[1]
    target = projection.coordinate(5, 9, 2 if projection.stacked else None)
    matrix_at(live, target)[5, 9] = 90.0
    for settings, count in (({}, 1), ({"share": 0.002}, None), ({"count": 3}, 3)):
        (variant,) = variants_of("m", {"largest": settings}, live, [target]).variants
        before = {name: view.clone() for _, name, view in layer_matrices(live)}
        total = 0
        with applied(live, variant):
            assert matrix_at(live, target)[5, 9] == 90.0
            for _, name, view in layer_matrices(live):
                gone = (view == 0) & (before[name] != 0)
                size = before[name].abs().numpy().copy()
                if view.data_ptr() == matrix_at(live, target).data_ptr():
                    size[5, 9] = 0
                expected = np.argsort(size.ravel())[-(count or max(1, round(0.002 * size.size))) :]
                assert set(np.flatnonzero(gone.numpy())) == set(expected), name
                assert torch.equal(view[~gone], before[name][~gone])
                total += len(expected)
        assert variant.change.weights == total and variant.magnitude_ratio < total
        assert all(torch.equal(before[name], view) for _, name, view in layer_matrices(live))


def test_largest_others_that_are_no_handful_are_refused(live):
    with pytest.raises(AtlasError, match="more than a hundredth") as caught:
        variants_of("m", {"largest": {"count": 10**6}}, live, TARGETS)
    assert "largest.count to" in caught.value.remedy
    bare = anatomy(tiny("llama"))
    for _, _, view in layer_matrices(bare):
        view.zero_()
    (skipped,) = variants_of("m", {"largest": {}}, bare, TARGETS).skipped
    assert "no other weights" in skipped.reason


def windows_of(live):
    ids = torch.randint(3, 299, (3, 20), generator=torch.Generator().manual_seed(0))
    scored = torch.ones(ids.shape, dtype=torch.bool)
    scored[:, 0] = False
    return Windows(ids, scored)


@pytest.mark.parametrize("pays", [True, False])
def test_a_variant_that_is_not_finite_costs_no_other(live, monkeypatch, capsys, pays):
    monkeypatch.setattr(measure, "pays", lambda *given, **keywords: pays)
    late = [Coordinate(3, 5, 9, component="mlp.down_proj")]
    expansion = variants_of("sw", {"scale": {"factors": [0.5, float("inf")]}, "zero": {}}, live, late)
    table, same = score_variants(live, windows_of(live), expansion, batch_size=2)
    finite = np.isfinite(table.nll).groupby(table.variant).all()
    assert finite.to_dict() == {"sw: zeroed": True, "sw: x 0.5": True, "sw: x inf": False} and same == expansion
    assert "sw: x inf: not finite: logits are no numbers in 3 of 3 windows" in capsys.readouterr().out


def test_a_baseline_that_is_not_finite_is_an_error():
    live = anatomy(tiny("llama"))
    live.projections[0].matrix()[0, 0] = float("nan")
    with pytest.raises(AtlasError, match="not a number"):
        score_variants(live, windows_of(live), variants_of("baseline", {}, live, []), batch_size=2)


def test_a_variant_that_the_model_refuses_is_listed_and_others_go_on(live, monkeypatch, capsys):
    expansion = variants_of("sw", {"zero": {}, "restore": {}}, live, TARGETS)

    def refuse(*_):
        raise AtlasError("its experts are called in an unknown way")

    monkeypatch.setattr(changes, "super_activations_restored", refuse)
    table, left = score_variants(live, windows_of(live), expansion, batch_size=2)
    assert table.variant.unique().tolist() == ["sw: zeroed"] == [variant.name for variant in left.variants]
    assert [(each.variant, each.kind) for each in left.skipped] == [("sw: activation restored", "restore")]
    assert "sw: activation restored: skipped: its experts" in capsys.readouterr().out
    with pytest.raises(AtlasError, match="unknown way"):
        score_variants(live, windows_of(live), replace(expansion, variants=expansion.variants[1:]), batch_size=2)
