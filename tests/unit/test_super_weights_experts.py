"""Experts: routing as the router reports it, super experts, scores; super activations and attention sinks."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from lm_models import LAYOUTS, drawn, plant, tiny, word_tokenizer

from weight_atlas.figures.expert_routing import expert_routing
from weight_atlas.figures.super_activations import super_activations as activation_figure
from weight_atlas.lm.anatomy import anatomy
from weight_atlas.lm.windows import fixed_windows
from weight_atlas.super_weights.activations import super_activations
from weight_atlas.super_weights.causal import with_causal_scores
from weight_atlas.super_weights.experts import expert_table
from weight_atlas.super_weights.routing import co_spike, position_entropy

MIXTURES = [layout for layout in LAYOUTS if any(p.stacked for p in anatomy(tiny(layout)).projections)]
WINDOWS = fixed_windows(np.random.default_rng(0).integers(5, 300, 150), window=30, prefix=[1])


@pytest.mark.parametrize("layout", MIXTURES)
def test_the_planted_expert_stands_out(layout):
    live = anatomy(tiny(layout))
    place = plant(live, 1, 9, 21)
    table = expert_table(live, WINDOWS)
    (candidate,) = table[table.candidate].itertuples()
    assert (candidate.layer, candidate.expert, candidate.row, candidate.column) == (1, place.expert, 9, 21)
    assert candidate.weight == 7.5
    assert candidate.input_value == pytest.approx(40, rel=0.3)
    assert table[table.super_expert].index.tolist() == [candidate.Index]
    k = live.model.config.get_text_config().to_dict()
    k = k.get("num_experts_per_tok") or k["ffn_config"]["moe_top_k"]
    assert np.allclose(table.groupby("layer").p_active.sum(), k)
    assert (table.tokens == (table.p_active * WINDOWS.ids.numel()).round()).all()
    if layout == "mixtral":
        assert "share of tokens" in drawn(expert_routing(table, residual_ratio=50, co_spike_threshold=0.12))


def test_routing_is_what_the_router_says():
    """DeepSeek-V3 chooses by sigmoid, bias and groups: softmax and top-k would give other experts."""
    live = anatomy(tiny("deepseek_v3"))
    gate = live.layers[2].mlp.gate
    gate.e_score_correction_bias[:] = torch.tensor([5.0, -5.0, 5.0, -5.0])
    table = expert_table(live, WINDOWS)
    of_layer = table[table.layer == 2].set_index("expert")
    assert of_layer.tokens.to_dict() == {0: WINDOWS.ids.numel(), 1: 0, 2: WINDOWS.ids.numel(), 3: 0}
    assert of_layer.rare.to_dict() == {0: False, 1: True, 2: False, 3: True}
    assert of_layer.position_entropy[0] == pytest.approx(math.log(30))
    assert pd.isna(of_layer.row[1])


def test_a_random_mixture_has_no_candidates_and_a_dense_model_no_rows():
    table = expert_table(anatomy(tiny("mixtral")), WINDOWS)
    assert len(table) == 16
    assert not table.candidate.any()
    assert not table.super_expert.any()
    # The published score exceeds its threshold for nearly all of these: it says nothing.
    assert table.co_spike_exceeds.mean() > 0.9
    dense = expert_table(anatomy(tiny("llama")), WINDOWS)
    assert len(dense) == 0
    assert "no mixture" in drawn(expert_routing(dense, residual_ratio=50, co_spike_threshold=0.12))
    assert list(dense.columns) == list(table.columns)


def test_causal_scores_are_of_the_strongest_only():
    live = anatomy(tiny("mixtral", sharp=True))
    plant(live, 1, 9, 21)
    table = with_causal_scores(live, WINDOWS, expert_table(live, WINDOWS), batch_size=4, most=2)
    assert table.impact_natural.notna().sum() == table.impact_interventional.notna().sum() == 2
    assert table[table.candidate].impact_natural.abs().item() > 0.1


def test_scores_against_their_formulas():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 200_000, generator=generator)
    assert co_spike(x, y) == pytest.approx(2 / math.pi, abs=0.01)
    assert co_spike(x[:1], y[:1]) == pytest.approx(1)
    assert co_spike(x * 0, y) == 0
    assert position_entropy([torch.tensor([0, 1]), torch.tensor([2, 3])], 9) == pytest.approx(math.log(4))
    assert position_entropy([torch.tensor([5, 5, 5])], 9) == 0
    assert position_entropy([], 9) is None


def test_super_activations_and_their_sink():
    live = anatomy(tiny("llama", attn_implementation="eager"))
    place = plant(live, 1, 9, 21, token=1)
    # A head of layer 2 that attends to the position whose channel 9 is massive.
    attention = live.layers[2].self_attn
    attention.q_proj.weight[:16] = 0
    attention.k_proj.weight[:16] = 0
    attention.k_proj.weight[:16, 9] = 1.0
    windows = fixed_windows(np.random.default_rng(0).integers(5, 15, 120), window=20, prefix=[1])
    attention.q_proj.weight[:16] = attention.k_proj.weight[:16]
    seen = super_activations(live, windows, [place], word_tokenizer(bos=True), ratio=9000)
    (row,) = seen.places.itertuples()
    assert (row.layer, row.channel, row.token, row.first_position) == (1, 9, "<s>", True)
    assert row.activations == row.occurrences == len(windows)
    assert row.mean_value == pytest.approx(300, rel=0.01)
    assert seen.sinks.layer.tolist() == [0, 1, 2, 3]
    # Up to its layer nothing differs; then the stream does.
    assert np.allclose(seen.sinks.share[:2], seen.sinks.share_without[:2])
    assert abs(seen.sinks.share[2] - seen.sinks.share_without[2]) > 1e-3
    with torch.no_grad():
        weights = live.model(windows.ids, output_attentions=True).attentions[0]
    assert seen.sinks.share[0] == pytest.approx(float(weights[:, :, 1:, 0].mean()), rel=1e-4)
    assert "100% of 6" in drawn(activation_figure(seen.places, seen.sinks))


def test_no_super_weights_no_activations():
    live = anatomy(tiny("llama"))
    seen = super_activations(live, WINDOWS, [], word_tokenizer(bos=True))
    assert len(seen.places) == len(seen.sinks) == 0
    assert "no super activations" in drawn(activation_figure(seen.places, seen.sinks))
