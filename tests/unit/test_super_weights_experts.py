"""Experts: routing as the router reports it, super experts, scores."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import LAYOUTS, LISTED, D, drawn, plant, tiny, word_tokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.figures.expert_routing import expert_routing
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.windows import Windows, fixed_windows
from weight_atlas.settings.super_weights import ExpertRouting
from weight_atlas.super_weights.calibration import Calibration, each_expert
from weight_atlas.super_weights.expert_table import expert_findings, expert_table, super_experts
from weight_atlas.super_weights.routing_measures import co_spike, position_entropy
from weight_atlas.super_weights.super_activations import super_activations

MIXTURES = [layout for layout in LAYOUTS if {"num_experts", "ffn_config"} & LAYOUTS[layout].keys()] + [LISTED]
WINDOWS = fixed_windows(np.random.default_rng(0).integers(5, 300, 150), window=30, prefix=[1])


@pytest.fixture(scope="module")
def planted():
    """A mixture with one planted weight, and its table: (live, place, table). Tests leave it as it is."""
    live = anatomy(tiny("mixtral"))
    place = plant(live, 1, 9, 21)
    return live, place, expert_table(live, WINDOWS, ExpertRouting())


@pytest.mark.parametrize("layout", MIXTURES)
def test_the_planted_expert_stands_out(layout):
    live = anatomy(tiny(layout))
    place = plant(live, 1, 9, 21)
    table = expert_table(live, WINDOWS, ExpertRouting())
    (candidate,) = table[table.candidate].itertuples()
    assert (candidate.layer, candidate.expert, candidate.row, candidate.column) == (1, place.expert, 9, 21)
    assert candidate.weight == 7.5
    assert candidate.input_value == pytest.approx(40, rel=0.3)
    assert table[table.super_expert].index.tolist() == [candidate.Index]
    assert candidate.persistence == 1
    k = LAYOUTS.get(layout, {}).get("num_experts_per_tok", 2)
    assert np.allclose(table.groupby("layer").p_active.sum(), k)
    assert (table.tokens == (table.p_active * WINDOWS.ids.numel()).round()).all()
    if layout == "mixtral":
        assert "share of tokens" in drawn(expert_routing(table, residual_ratio=50, co_spike_threshold=0.12))


def test_the_table_against_the_experts_own_modules():
    """A list of experts says by itself what each got and gave: rows, weights, tokens and positions."""
    live = anatomy(tiny(LISTED))
    place = plant(live, 1, 9, 21)
    block = live.layers[1].mlp
    table = expert_table(live, WINDOWS, ExpertRouting())
    own = table[(table.layer == 1)].set_index("expert")
    seen = []
    handle = block.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].reshape(-1, D)))
    with torch.no_grad():
        live.model(WINDOWS.ids)
        handle.remove()
        weight, index = block.gate(seen[0]).softmax(-1).topk(2)
        for number, expert in enumerate(block.experts):
            token, slot = (index == number).nonzero(as_tuple=True)
            row = own.loc[number]
            assert row.tokens == len(token)
            assert row.p_active == pytest.approx(len(token) / WINDOWS.ids.numel())
            assert row.mean_weight == pytest.approx(float(weight[token, slot].mean()), rel=1e-4)
            x = expert.act_fn(expert.gate_proj(seen[0][token])) * expert.up_proj(seen[0][token])
            assert row.max_input == pytest.approx(float(x.abs().max()), rel=1e-5)
            assert row.max_output == pytest.approx(float(expert.down_proj(x).abs().max()), rel=1e-5)
            assert row.position_entropy == pytest.approx(position_entropy([token % 30], 30))
    planted = own.loc[place.expert]
    factor = float(weight[0][index[0] == place.expert])
    assert planted.contribution == pytest.approx(planted.input_value * 7.5 * factor, rel=1e-3)


def test_listed_experts_that_are_computed_for_every_token():
    """Whom the router asked shows in the weights alone."""
    live = anatomy(tiny(LISTED))
    plant(live, 1, 9, 21)
    sparse = expert_table(live, WINDOWS, ExpertRouting())

    def dense(block, hidden, share=1.0):
        rows = hidden.reshape(-1, D)
        weight, index = block.gate(rows).softmax(-1).topk(2)
        whole = torch.zeros(len(rows), 4).scatter(1, index, share * weight)
        parts = [expert(rows) * whole[:, [number]] for number, expert in enumerate(block.experts)]
        return (sum(parts) + block.shared_experts(rows)).view_as(hidden)

    for layer in live.layers:
        layer.mlp.forward = partial(dense, layer.mlp)
    table = expert_table(live, WINDOWS, ExpertRouting())
    columns = ["tokens", "row", "column", "candidate", "super_expert"]
    assert table[columns].equals(sparse[columns])
    assert np.allclose(table.mean_weight, sparse.mean_weight, rtol=1e-3)
    # Weights that are not normalised may be small: what counts is how far they stand off the noise.
    for layer in live.layers:
        layer.mlp.forward = partial(dense, layer.mlp, share=0.01)
    small = expert_table(live, WINDOWS, ExpertRouting())
    first = small.layer == 0
    assert small[first].tokens.equals(sparse[first].tokens)
    assert np.allclose(small[first].mean_weight, 0.01 * sparse[first].mean_weight, rtol=1e-2)


def test_listed_experts_in_a_block_of_another_kind_are_a_message():
    live = anatomy(tiny(LISTED))
    block = live.layers[1].mlp
    usual = block.forward
    block.forward = lambda hidden: usual(hidden) + 3 * hidden
    with pytest.raises(AtlasError, match=r"not a sum of its experts(.|\n)*model\.layers\.1\.mlp"):
        expert_table(live, WINDOWS, ExpertRouting())
    block.forward = lambda hidden: usual(hidden * 2)
    block.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 0,))
    with pytest.raises(AtlasError, match="cannot be identified"):
        expert_table(live, WINDOWS, ExpertRouting())


def test_how_long_an_activation_lasts_is_seen_in_its_own_window():
    """Later windows have other tokens at its position."""
    live = anatomy(tiny("mixtral"))
    plant(live, 1, 9, 21)
    ids = WINDOWS.ids[:3].clone()
    ids[1:, 0] = 7

    def only_massive(module, inputs, output):
        kept = output.clone()
        kept[..., 9] = torch.where(kept[..., 9].abs() > 50, kept[..., 9], 0)
        return kept

    handle = live.layers[2].register_forward_hook(only_massive)
    table = expert_table(live, Windows(ids, torch.ones_like(ids).bool()), ExpertRouting(min_tokens=1))
    handle.remove()
    strongest = table.loc[table.contribution_ratio.idxmax()]
    assert (strongest.layer, strongest.column, strongest.persistence) == (1, 21, 1)


def test_the_strongest_weight_is_that_of_the_largest_contribution(planted):
    """Over all tokens, rows and neurons, by brute force; neither bias nor a sum of many weights hides it."""
    live, _, table = planted
    medians, seen = [], {}
    handles = [
        layer.register_forward_pre_hook(
            lambda module, inputs: medians.append(inputs[0].reshape(-1, D).abs().median(1).values)
        )
        for layer in live.layers
    ]

    def look(projection, one):
        rows = projection.matrix(one.expert)
        parts = (one.x[:, None] * rows).abs() * one.weight[:, None, None] / medians[-1][one.token][:, None, None]
        seen[projection.layer, one.expert] = parts

    with each_expert(live, look), torch.no_grad():
        live.model(WINDOWS.ids)
    for handle in handles:
        handle.remove()
    for row in table.itertuples():
        parts = seen[row.layer, row.expert]
        assert row.contribution_ratio == pytest.approx(float(parts.max()), rel=1e-4)
        assert parts[:, row.row, row.column].max() == parts.max()


def test_a_bias_does_not_hide_the_planted_weight():
    live = anatomy(tiny("gpt_oss"))
    place = plant(live, 1, 9, 21)
    live.projection(place).container.down_proj_bias[:, 30] = 400.0
    table = expert_table(live, WINDOWS, ExpertRouting())
    assert (1, place.expert, 9, 21) in set(
        table[table.candidate][["layer", "expert", "row", "column"]].itertuples(index=False, name=None)
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("layout", ["mixtral", LISTED])
def test_an_expert_that_is_not_finite_is_a_message(layout, value):
    live = anatomy(tiny(layout))
    projection = next(p for p in live.projections if p.layer == 1 and (p.stacked or p.expert == 2))
    projection.matrix(2)[0, 0] = value
    with pytest.raises(AtlasError, match=r"not finite(.|\n)*layers\.1\."):
        expert_table(live, WINDOWS, ExpertRouting())
    live = anatomy(tiny("llama", attn_implementation="eager"))
    place = plant(live, 1, 9, 21)
    live.layers[2].mlp.up_proj.weight[0, 0] = value
    with pytest.raises(AtlasError, match="not finite"):
        super_activations(live, WINDOWS, [place], word_tokenizer(bos=True))


def test_what_the_last_layer_makes_large_is_an_echo():
    live = anatomy(tiny("mixtral"))
    place = plant(live, 3, 9, 21)
    table = expert_table(live, WINDOWS, ExpertRouting())
    echo = table[(table.layer == 3) & (table.expert == place.expert)].iloc[0]
    assert echo.contribution_ratio > 50
    assert echo.persistence == 0
    assert not table.candidate.any() and not table.super_expert.any()


def test_an_activation_that_the_next_layer_takes_away_is_no_candidate():
    live = anatomy(tiny("mixtral"))
    place = plant(live, 1, 9, 21)

    def wipe(module, inputs, output):
        wiped = output.clone()
        wiped[..., 9] = 0
        return wiped

    handle = live.layers[2].register_forward_hook(wipe)
    table = expert_table(live, WINDOWS, ExpertRouting())
    handle.remove()
    own = table[(table.layer == 1) & (table.expert == place.expert)].iloc[0]
    assert (own.column, own.persistence, own.candidate) == (21, 0, False)


def test_layers_in_which_massive_activations_form():
    def forming(*channels, medians=1.0, ratio=50.0):
        peaks = np.array(channels, float).T
        return Calibration({}, peaks, np.full(len(peaks), medians), 1).forming(ratio)

    # After the embedding, then after each of five layers.
    assert forming([1, 2, 300, 310, 300, 300]) == {1}
    assert forming([1, 2, 200, 310, 300, 300]) == {1, 2}
    assert forming([1, 2, 300, 355, 300, 300]) == {1}
    # The embedding's own; the last layer's echo, which hides none of the others either.
    assert forming([300, 300, 300, 300, 300, 300]) == set()
    assert forming([1, 1, 1, 1, 1, 300]) == set()
    assert forming([1, 2, 300, 310, 300, 9000]) == {1}
    # A second channel's, that no other layer makes larger than the first.
    assert forming([1, 2, 300, 310, 300, 300], [1, 1, 1, 200, 200, 200]) == {1, 2}
    # Large beside others, but not beside the stream.
    assert forming([1, 2, 300, 310, 300, 300], medians=10.0) == set()
    assert forming([1, 2, 300, 310, 300, 300], medians=10.0, ratio=20) == {1}


def test_the_published_rule_of_super_experts():
    outputs = [1.0] * 398 + [9.0, 100.0]
    table = pd.DataFrame({"layer": [0] * 200 + [1] * 200, "max_output": outputs})
    assert super_experts(table, {0, 1}).to_numpy().nonzero()[0].tolist() == [399]
    assert not super_experts(table, {0}).any()
    # Above the percentile, and above a tenth of the largest.
    table.max_output = [1.0] * 398 + [11.0, 100.0]
    assert super_experts(table, {1}).to_numpy().nonzero()[0].tolist() == [398, 399]
    # Of 400 the 99.5th percentile lets two through: the third is too many.
    table.max_output = [1.0] * 396 + [90.0, 91.0, 92.0, 100.0]
    assert super_experts(table, {1}).to_numpy().nonzero()[0].tolist() == [398, 399]


def test_rare_experts_and_too_few_tokens_give_no_candidates(planted):
    live, _, table = planted
    (candidate,) = table[table.candidate].itertuples()
    few = expert_table(live, WINDOWS, ExpertRouting(min_tokens=int(candidate.tokens) + 1))
    rare = expert_table(live, WINDOWS, ExpertRouting(p_active_floor=candidate.p_active + 0.01))
    assert not few.candidate.any() and not rare.candidate.any()
    assert rare.rare[candidate.Index] and not few.rare[candidate.Index]
    assert expert_table(live, WINDOWS, ExpertRouting(min_tokens=int(candidate.tokens))).candidate.sum() == 1
    assert not expert_table(
        live, WINDOWS, ExpertRouting(residual_ratio=2 * candidate.contribution_ratio)
    ).candidate.any()


def test_routing_is_what_the_router_says():
    """DeepSeek-V3 chooses by sigmoid, bias and groups: softmax and top-k would give other experts."""
    live = anatomy(tiny("deepseek_v3"))
    gate = live.layers[2].mlp.gate
    gate.e_score_correction_bias[:] = torch.tensor([5.0, -5.0, 5.0, -5.0])
    table = expert_table(live, WINDOWS, ExpertRouting())
    of_layer = table[table.layer == 2].set_index("expert")
    assert of_layer.tokens.to_dict() == {0: WINDOWS.ids.numel(), 1: 0, 2: WINDOWS.ids.numel(), 3: 0}
    assert of_layer.rare.to_dict() == {0: False, 1: True, 2: False, 3: True}
    assert of_layer.position_entropy[0] == pytest.approx(math.log(30))
    assert pd.isna(of_layer.row[1])


def test_a_random_mixture_has_no_candidates_and_a_dense_model_no_rows():
    table = expert_table(anatomy(tiny("mixtral")), WINDOWS, ExpertRouting())
    assert len(table) == 16
    assert not table.candidate.any()
    assert not table.super_expert.any()
    # The published score exceeds its threshold for nearly all of these: it says nothing.
    assert table.co_spike_exceeds.mean() > 0.9
    dense = expert_table(anatomy(tiny("llama")), WINDOWS, ExpertRouting())
    assert len(dense) == 0
    assert "no mixture" in drawn(expert_routing(dense, residual_ratio=50, co_spike_threshold=0.12))
    assert list(dense.columns) == list(table.columns)


def test_super_experts_are_findings(planted):
    _, place, table = planted
    (finding,) = expert_findings(table)
    row = table[table.super_expert].iloc[0]
    assert finding["grade"] == "notable"
    assert finding["text"] == (
        f"Layer 1 expert {place.expert} ({row.p_active:.1%} of tokens) is a super expert: its largest output is "
        f"{row.max_output:.4g}, its weight [9, 21] contributes {row.contribution_ratio:,.0f} times the median of its "
        "token's residual stream."
    )
    (other,) = expert_findings(table.assign(super_expert=False))
    assert (
        f"Layer 1 expert {place.expert}" in other["text"] and "no super expert, but its weight [9, 21]" in other["text"]
    )
    (none,) = expert_findings(table.assign(super_expert=False, candidate=False))
    assert none == {"grade": "info", "text": "None of 16 experts is a super expert."}
    assert expert_findings(table.iloc[:0]) == []


def test_scores_against_their_formulas():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 200_000, generator=generator)
    assert co_spike(x, y) == pytest.approx(2 / math.pi, abs=0.01)
    assert co_spike(x[:1], y[:1]) == pytest.approx(1)
    assert co_spike(x * 0, y) == 0
    assert position_entropy([torch.tensor([0, 1]), torch.tensor([2, 3])], 9) == pytest.approx(math.log(4))
    assert position_entropy([torch.tensor([5, 5, 5])], 9) == 0
    assert position_entropy([], 9) is None
