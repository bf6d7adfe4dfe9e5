"""Super activations: which tokens have them, the attention on these, and what counts as one."""

import numpy as np
import pytest
import torch
from live_models import drawn, plant, tiny, word_tokenizer
from test_super_weights_experts import WINDOWS

from weight_atlas.figures.super_activations import super_activations as activation_figure
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.windows import fixed_windows
from weight_atlas.super_weights.super_activations import outstanding, super_activations


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


def test_ordinary_tokens_have_no_super_activation():
    """At the defaults: a quiet stream's ordinary values are many times its median, but far from the channel's peak."""
    live = anatomy(tiny("llama", attn_implementation="eager"))
    for layer in live.layers[:2]:
        # No other token learns of the first.
        layer.self_attn.o_proj.weight[:] = 0
    place = plant(live, 1, 9, 21, token=1)
    windows = fixed_windows(np.random.default_rng(0).integers(5, 15, 120), window=20, prefix=[1])
    seen = super_activations(live, windows, [place], word_tokenizer(bos=True))
    lenient = super_activations(live, windows, [place], word_tokenizer(bos=True), ratio=10.0)
    assert lenient.places.equals(seen.places)
    assert seen.places[["token", "first_position"]].to_numpy().tolist() == [["<s>", True]]


def test_what_counts_as_a_super_activation():
    def found(values, median=0.1, ratio=50.0):
        return outstanding(torch.tensor(values)[:, None], torch.full((len(values), 1), median), ratio)[:, 0].tolist()

    # Half of the text's largest, with its sign left out; the ratio to the median alone is not enough.
    assert found([[30.0, 14.0, 1.0], [-16.0, 9.0, 0.0]]) == [[True, False, False], [True, False, False]]
    assert found([[4.9, 4.9]]) == [[False, False]]
    assert found([[5.1, 5.1]]) == [[True, True]]
    # Massive by the published rule, whatever the channel's largest is: above 100, and 1000 times the median.
    assert found([[9000.0, 101.0, 99.0]]) == [[True, True, False]]
    assert found([[9000.0, 250.0, 150.0]], median=0.2) == [[True, True, False]]


def test_no_super_weights_no_activations():
    live = anatomy(tiny("llama"))
    seen = super_activations(live, WINDOWS, [], word_tokenizer(bos=True))
    assert len(seen.places) == len(seen.sinks) == 0
    assert "no super activations" in drawn(activation_figure(seen.places, seen.sinks))
