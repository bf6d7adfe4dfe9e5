"""Perplexity and ablations: exact values, fair controls, and honest intervals."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import drawn, own_text, plant, tiny

from weight_atlas.ablations import window_scores
from weight_atlas.ablations.perplexity import COLUMNS, perplexity_table
from weight_atlas.ablations.variants import variants_of
from weight_atlas.figures import ablation_perplexity
from weight_atlas.interventions import measure
from weight_atlas.interventions.controls import magnitude_ratio, matched_draws
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.matrices import matrix_at

PROMPT = (1, 50, 60, 70, 80)


@pytest.fixture(scope="module")
def planted():
    live = anatomy(tiny("llama", sharp=True))
    return live, plant(live, 1, 9, 21)


def scored(live, name, settings, weights):
    """(description, windows) of an ablation."""
    expansion = variants_of(name, settings, live, weights, prompt=PROMPT)
    windows, expansion = window_scores.score_variants(live, own_text(live), expansion, batch_size=4)
    return expansion.description(name), windows


def table_of(live, weights, draws=5):
    _, baseline = scored(live, "baseline", {}, weights)
    settings = {"zero": {}, "each": {}, "random": {"draws": draws}}
    return perplexity_table("text", baseline, [scored(live, "mine", settings, weights)])


def test_ablation_table(planted):
    live, place = planted
    before = {name: parameter.clone() for name, parameter in live.model.named_parameters()}
    table = table_of(live, [place])
    assert tuple(table.columns) == COLUMNS
    assert table.kind.tolist() == ["baseline", "zero", "each", *["random"] * 5]
    assert table.weights.tolist() == [0, *[1] * 7]
    assert (table.tokens == own_text(live).scored.sum().item()).all()
    assert table.magnitude_ratio[1] == 1 and table.magnitude_ratio[3:].between(0, 1).all()
    assert table.ratio[0] == 1 and table.ratio[1] > 10 and table.ratio[3:].max() < 1.1
    assert table.severity[1] == "catastrophic"
    assert table.delta_nll[1] == pytest.approx(math.log(table.ratio[1]), rel=1e-9)
    assert table.perplexity[1] == pytest.approx(table.perplexity[0] * table.ratio[1], rel=1e-9)
    assert table.delta_nll_low[1] < table.delta_nll[1] < table.delta_nll_high[1]
    assert all((before[name] == parameter).all() for name, parameter in live.model.named_parameters())
    pd.testing.assert_frame_equal(table, table_of(live, [place]), check_exact=True)
    text = drawn(ablation_perplexity.ablation_perplexity(table))
    assert "catastrophic" in text and "Perplexity on text" in text


def test_what_a_model_does_not_allow_has_a_row_that_says_why(planted):
    live, place = planted
    _, baseline = scored(live, "baseline", {}, [place])
    description, windows = scored(live, "mine", {"zero": {}}, [place])
    description |= {"targets": "detected", "skipped": [{"variant": "mine: x", "kind": "experts", "reason": "dense"}]}
    table = perplexity_table("text", baseline, [(description, windows)])
    (row,) = table[table.kind == "experts"].to_dict("records")
    assert (row["severity"], row["note"], row["targets"]) == ("no variants", "dense", "detected")
    assert len(table) == 3 and "no variants" not in drawn(ablation_perplexity.ablation_perplexity(table))


def test_none_found_gives_the_baseline_and_says_so(planted):
    live, _ = planted
    table = table_of(live, [])
    assert table[table.perplexity.notna()].variant.tolist() == ["baseline"]
    assert (table.severity[1:] == "no variants").all()
    assert "nothing to ablate" in drawn(ablation_perplexity.ablation_perplexity(table))


def test_a_variant_that_is_not_finite_is_in_the_table_and_the_figure(planted):
    live, place = planted
    _, baseline = scored(live, "baseline", {}, [place])
    settings = {"zero": {}, "scale": {"factors": [0.9, math.inf]}, "random": {"draws": 2}}
    table = perplexity_table("text", baseline, [scored(live, "mine", settings, [place])])
    row = table[table.variant == "mine: x inf"].iloc[0]
    assert row.severity == "not finite" and np.isnan(row.perplexity) and np.isfinite(table.perplexity).sum() == 5
    assert "not finite" in drawn(ablation_perplexity.ablation_perplexity(table))


def test_several_super_weights_also_one_by_one(planted):
    live, place = planted
    other = Coordinate(2, 3, 4, component="mlp.down_proj")
    table = table_of(live, [place, other], draws=2)
    assert table.kind.tolist() == ["baseline", "zero", "each", "each", "random", "random"]
    assert table.weights.tolist() == [0, 2, 1, 1, 2, 2]
    assert table.ratio[3] == pytest.approx(1, abs=0.01)
    both = pd.concat([table, table.assign(corpus="other")], ignore_index=True)
    assert len(ablation_perplexity.ablation_perplexity(both).axes) == 2


def test_variants_that_restart_score_as_plain_passes_do(planted, monkeypatch):
    live, place = planted
    late = Coordinate(3, 3, 4, component="mlp.down_proj")
    settings = {
        "zero": {}, "each": {}, "scale": {"factors": [0.5, 1, 2]}, "neurons": {}, "restore": {},
        "random": {"draws": 12}, "quantize": {"formats": ["int8"], "granularities": ["channel"]},
    }  # fmt: skip
    taken = []
    real = measure.score_edits

    def noted(live, windows, edits, *given, **options):
        taken.append(len(edits))
        return real(live, windows, edits, *given, **options)

    monkeypatch.setattr(measure, "score_edits", noted)
    description, quick = scored(live, "mine", settings, [place, late])
    # All that edits weights and changes some: not the factor of one, nor what is restored or quantized.
    assert taken == [1 + 2 + 2 + 1 + 12]
    monkeypatch.setattr(measure, "pays", lambda *given, **keywords: False)
    _, plain = scored(live, "mine", settings, [place, late])
    assert taken == [18]
    assert quick.variant.unique().tolist() == [record["variant"] for record in description["variants"]]
    pd.testing.assert_frame_equal(quick, plain, rtol=1e-5)
    _, baseline = scored(live, "baseline", {}, [])
    assert quick[quick.variant == "mine: x 1"].nll.tolist() == baseline.nll.tolist()


def test_restarts_are_taken_only_where_they_save_passes(planted):
    live, place = planted
    early = Coordinate(0, 3, 4, component="mlp.down_proj")
    windows = own_text(live)
    for weights, draws, restarted in (([early], 20, False), ([place], 7, False), ([place], 20, True)):
        variants = variants_of("mine", {"random": {"draws": draws}}, live, weights).variants
        assert bool(measure._shortcuts(live, windows, dict(enumerate(variants)))[1]) is restarted


def test_out_of_memory_halves_the_variants_that_go_together(planted, monkeypatch, capsys):
    live, place = planted
    real, sizes = measure.score_edits, []

    def scarce(live, windows, edits, route, *, batch_size, **options):
        sizes.append(batch_size)
        if batch_size > 3:
            raise torch.OutOfMemoryError("out of memory")
        return real(live, windows, edits, route, batch_size=batch_size, **options)

    monkeypatch.setattr(measure, "score_edits", scarce)
    variants = variants_of("mine", {"random": {"draws": 20}}, live, [place])
    table, _ = window_scores.score_variants(live, own_text(live), variants, batch_size=8)
    assert sizes == [8, 4, 2] and len(table) == 20 * 6
    assert "going on with 4" in capsys.readouterr().out


def test_controls_are_near_in_size_in_the_same_matrix_and_never_a_target(planted):
    live, _ = planted
    matrix = matrix_at(live, Coordinate(2, 0, 0))
    order = matrix.abs().flatten().argsort(descending=True)[1000:1003].tolist()
    targets = [Coordinate(2, place // 96, place % 96) for place in order]
    draws = matched_draws(live, targets, draws=60, seed=3)
    assert len(draws) == 60
    drawn = [control for controls in draws for control in controls]
    assert len(set(drawn)) == len(drawn) == 180
    assert not set(drawn) & set(targets)
    ranks = matrix.abs().flatten().argsort(descending=True).argsort().view(64, 96)
    assert all(abs(int(ranks[c.row, c.col]) - 1001) <= 200 for c in drawn)
    assert magnitude_ratio(live, targets, draws[0]) == pytest.approx(1, abs=0.02)
    assert matched_draws(live, targets, draws=60, seed=3) == draws != matched_draws(live, targets, draws=60, seed=4)


def test_controls_leave_zeros_and_targets_out_in_a_tiny_matrix():
    live = anatomy(tiny("llama", intermediate_size=2))
    matrix = matrix_at(live, Coordinate(0, 0, 0))
    matrix[1:] = 0
    assert matched_draws(live, [Coordinate(0, 0, 0)], draws=3, seed=0) == [[Coordinate(0, 0, 1)]] * 3
    matrix[0, 1] = 0
    assert matched_draws(live, [Coordinate(0, 0, 0)], draws=3, seed=0) == []
