"""Attention on the positions of massive activations, against the model's own weights and values."""

import numpy as np
import pytest
import torch
from live_models import drawn, own_text, tiny
from test_massive_activations import CHANNEL, NEURON, TOKENIZER, live_of, quiet, report_of

from weight_atlas.errors import NotApplicable
from weight_atlas.figures.massive_activations import massive_activations as figure_of
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.attention import attention_observed
from weight_atlas.settings.super_weights import MassiveActivations
from weight_atlas.super_weights import sinks as sinks_module
from weight_atlas.super_weights.massive_report import massive_report_of
from weight_atlas.super_weights.sinks import head_sinks, sink_shares


@pytest.mark.parametrize("layout", ["llama", "olmo2", "gpt2", "gpt_neox", "phi3", "gemma2", "mixtral", "openai-gpt"])
def test_attention_on_the_sinks_and_the_length_of_values_are_the_models_own(layout):
    live = anatomy(tiny(layout, attn_implementation="eager"))
    windows = own_text(live, windows=2, length=20)
    table = head_sinks(live, windows, [[0], [0, 3]], [])
    with torch.no_grad():
        attentions = live.model(windows.ids, output_attentions=True).attentions
    assert len(table) == len(attentions) * attentions[0].shape[1]
    for row in table.itertuples():
        weights = attentions[row.layer][:, row.head].double()
        shares = [weights[0, 1:, 0].mean(), weights[1, 1:, [0, 3]].sum(-1).mean()]
        assert row.share == pytest.approx(float(sum(shares) / 2), rel=1e-4)
    # Every query q sees q + 1 keys.
    queries = range(1, 20)
    uniform = [np.mean([1 / (q + 1) for q in queries]), np.mean([(1 + (q >= 3)) / (q + 1) for q in queries])]
    assert table.uniform.to_numpy() == pytest.approx(np.full(len(table), np.mean(uniform)), rel=1e-5)
    assert table.share_without.isna().all()
    if layout == "llama":
        seen = {}
        hooks = [
            layer.self_attn.v_proj.register_forward_hook(lambda m, i, o, n=n: seen.__setitem__(n, o.double()))
            for n, layer in enumerate(live.layers)
        ]
        with torch.no_grad():
            live.model(windows.ids)
        for hook in hooks:
            hook.remove()
        for row in table.itertuples():
            norms = seen[row.layer].unflatten(-1, (2, 16)).norm(dim=-1)[..., row.kv_head].numpy()
            ratios = [norms[0, 0] / np.median(norms[0, 1:]), norms[1, [0, 3]].mean() / lower_median(norms[1])]
            assert row.kv_head == row.head // 2 and row.value_ratio == pytest.approx(np.mean(ratios), rel=1e-3)


def lower_median(norms):
    """Of an even number of values torch's median is the lower of the two in the middle."""
    others = np.sort(np.delete(norms, [0, 3]))
    return others[(len(others) - 1) // 2]


@pytest.mark.slow
def test_sinks_before_and_after_the_super_weight_and_a_drain():
    live = quiet(live_of())
    model, embedding = live.model.model, live.model.get_input_embeddings().weight.data
    # A direction that only the first token has, a neuron that reads it alone, and a weight that writes the activation.
    embedding[:, 40], embedding[1, 40] = 0, 1
    for layer in model.layers[:2]:
        layer.self_attn.o_proj.weight.data[40] = layer.mlp.down_proj.weight.data[40] = 0
    for matrix in (model.layers[1].mlp.gate_proj.weight.data, model.layers[1].mlp.up_proj.weight.data):
        matrix[NEURON], matrix[NEURON, 40] = 0, 1
    model.layers[1].mlp.down_proj.weight.data[CHANNEL, NEURON] = 5
    place = live.projections[1].coordinate(CHANNEL, NEURON)
    attention = live.layers[2].self_attn
    # The first head of layer 2 looks for the massive channel, and reads nothing there.
    attention.q_proj.weight[:16], attention.k_proj.weight[:16] = 0, 0
    attention.q_proj.bias = torch.nn.Parameter(torch.full((64,), 4.0), requires_grad=False)
    attention.k_proj.weight[:16, CHANNEL] = 4.0
    attention.v_proj.weight[:16, CHANNEL] = 0
    report, windows = report_of(live, [place])
    row = report.heads[(report.heads.layer == 2) & (report.heads["head"] == 0)].iloc[0]

    @torch.no_grad()
    def share():
        weights = live.model(windows.ids, output_attentions=True).attentions[2][:, 0]
        # The token may come again later in a window.
        return np.mean([float(own[1:, ids == 1].sum(1).mean()) for own, ids in zip(weights, windows.ids, strict=True)])

    expected = share()
    live.model.model.layers[1].mlp.down_proj.weight[CHANNEL, NEURON] = 0
    without = share()
    assert row.share == pytest.approx(expected, rel=1e-4) and row.share > 0.9 > 0.3 > row.share_without
    assert row.share_without == pytest.approx(without, rel=1e-4)
    assert row.exceed_share == 0 and row.value_ratio < 0.5 < row.value_ratio_without
    (text,) = [each["text"] for each in report.artifact["findings"] if "heads give" in each["text"]]
    assert "of 16 heads give the positions of the massive activations more than 30%" in text


def test_of_uniform_attention_no_position_is_special():
    length = 32
    seen = torch.ones(length, length).tril()
    window = seen * torch.ones(length, length).triu(-7)
    for mask in (seen, window):
        weights = (mask / mask.sum(1, keepdim=True)).expand(2, -1, -1)
        share, uniform, exceed = sink_shares(weights, [0])
        assert share.tolist() == pytest.approx([uniform] * 2)
        assert (exceed > 0.5).all() or exceed.isnan().all()
    share, uniform, exceed = sink_shares(weights, [length - 1])
    assert share.isnan().all() and exceed.isnan().all()


def test_one_layers_weights_exist_at_a_time_and_a_model_without_them_says_so(monkeypatch):
    live = anatomy(tiny("llama", attn_implementation="eager"))
    shapes = []
    with attention_observed(live, lambda layer, weights: shapes.append((layer, tuple(weights.shape)))), torch.no_grad():
        live.model(torch.ones(2, 7, dtype=torch.int64))
    assert shapes == [(layer, (2, 4, 7, 7)) for layer in range(4)]
    without = anatomy(tiny("llama"))
    windows = own_text(without, windows=2, length=12)
    monkeypatch.setattr(sinks_module, "attention_observed", lambda live, note: attention_observed(without_layers, note))
    without_layers = type("Nothing", (), {"layers": []})()
    with pytest.raises(NotApplicable, match="gives no attention weights"):
        head_sinks(without, windows, [[0], [0]], [])
    report = massive_report_of(without, TOKENIZER, windows, [], MassiveActivations(), "m")
    assert report.heads is None and report.without_heads == "the model gives no attention weights"
    assert "gives no attention weights" in drawn(figure_of(report.sites, None, report.without_heads))
