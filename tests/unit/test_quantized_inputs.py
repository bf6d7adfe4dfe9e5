"""Quantized activations against plain transformers with hooks of this test's own, and what is kept of them."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import plant, tiny

from weight_atlas.ablations.impact import impact_table, window_impact
from weight_atlas.ablations.quantization_errors import scheme_errors, scheme_table
from weight_atlas.ablations.quantization_variants import quantizations
from weight_atlas.ablations.variants import variants_of
from weight_atlas.ablations.window_scores import score_variants
from weight_atlas.errors import AtlasError
from weight_atlas.figures.ablation_quantization import plain_against_sparing
from weight_atlas.interventions.quantized_inputs import quantized_inputs
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.windows import Windows
from weight_atlas.quantization.inputs import InputScheme, quantized_inputs_of

IDS = torch.cat(
    [torch.ones(3, 1, dtype=torch.int64), torch.randint(5, 299, (3, 15), generator=torch.Generator().manual_seed(1))], 1
)
# The linear modules of a layer of each layout, by the ends of their names: a list by hand, no table of families.
LINEAR = {
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "olmo2": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "gpt_neox": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
}


def by_hand(x, format_, granularity):
    """Asymmetric int8 and FP8 of one sequence (tokens, d), by their formulas in numpy."""
    # In float32 like the model: between two levels the last digit decides, and the decision spreads.
    x = x.float().numpy()
    result = np.empty_like(x)
    blocks = [(slice(None), slice(None))] if granularity == "tensor" else [(row, slice(None)) for row in range(len(x))]
    for block in blocks:
        part = x[block]
        if format_ == "int8":
            low, step = part.min(), (part.max() - part.min()) / np.float32(255)
            result[block] = np.round((part - low) / step) * step + low
        else:
            scale = np.abs(part).max() / np.float32(448)
            scaled = np.abs(part / scale)
            exponent = np.maximum(np.floor(np.log2(np.maximum(scaled, 1e-30))), -6)
            unit = 2.0 ** (exponent - 3)
            result[block] = np.sign(part) * np.round(scaled / unit) * unit * scale
    return torch.from_numpy(result)


def plain_pass(model, names, format_, granularity, kept=lambda name, x: None):
    """Logits of one sequence after another, every linear module of a layer with rounded inputs; kept: (mask, x)."""

    def hook(name):
        def rounded(module, inputs):
            (x,) = inputs
            flat = x.reshape(-1, x.shape[-1]).clone()
            mask = kept(name, flat)
            replaced = flat.clone()
            if mask is not None:
                for token, channel in mask.nonzero().tolist():
                    replaced[token, channel] = flat[token].median()
            result = by_hand(replaced, format_, granularity).to(x.dtype)
            if mask is not None:
                result[mask] = flat[mask]
            return (result.view_as(x),)

        return rounded

    handles = [
        module.register_forward_pre_hook(hook(name)) for name, module in model.named_modules() if name.endswith(names)
    ]
    try:
        with torch.no_grad():
            return torch.cat([model(ids[None]).logits for ids in IDS])
    finally:
        for handle in handles:
            handle.remove()


def rounded_logits(live, scheme, kept=()):
    with quantized_inputs(live, scheme, kept), torch.no_grad():
        return torch.cat([live.model(ids[None]).logits for ids in IDS])


@pytest.mark.parametrize(
    ("layout", "format_", "granularity"),
    [
        ("llama", "int8", "tensor"), ("llama", "int8", "token"), ("llama", "fp8_e4m3", "tensor"),
        ("gpt2", "int8", "token"), ("gpt2", "fp8_e4m3", "token"), ("phi3", "int8", "tensor"),
        ("olmo2", "int8", "token"), ("gpt_neox", "int8", "tensor"),
    ],
)  # fmt: skip
def test_logits_are_those_of_plain_transformers_with_hooks(layout, format_, granularity):
    live = anatomy(tiny(layout, sharp=True))
    with torch.no_grad():
        before = live.model(IDS).logits
    expected = plain_pass(live.model, LINEAR[layout], format_, granularity)
    found = rounded_logits(live, InputScheme(format_, granularity))
    moved = (expected - before).abs().mean()
    assert moved > 0 and (found - expected).abs().mean() < 1e-3 * moved
    with torch.no_grad():
        assert torch.equal(live.model(IDS).logits, before)


def test_super_activations_are_kept_where_they_arrive():
    live = anatomy(tiny("llama", sharp=True))
    place = plant(live, 1, 9, 21)

    def kept(name, x):
        layer, last = int(name.split(".")[2]), name.rpartition(".")[2]
        channel = 21 if layer == 1 and last == "down_proj" else 9 if layer > 1 else None
        if channel is None or (last in ("o_proj", "down_proj") and layer > 1):
            return None
        mask = torch.zeros(x.shape, dtype=torch.bool)
        mask[:, channel] = x[:, channel].abs() >= 10 * x.abs().median(1).values
        return mask if mask.any() else None

    scheme = InputScheme("int8", "tensor")
    expected = plain_pass(live.model, LINEAR["llama"], "int8", "tensor", kept)
    found = rounded_logits(live, scheme, [place])
    plain = rounded_logits(live, scheme)
    with torch.no_grad():
        exact = torch.cat([live.model(ids[None]).logits for ids in IDS])
    assert (found - expected).abs().mean() < 1e-3 * (expected - exact).abs().mean()
    # One outlier of a text widens the range of all: kept apart, it costs the others nothing.
    assert (found - exact).abs().mean() < 0.3 * (plain - exact).abs().mean()


@pytest.mark.parametrize("layout", ["mixtral", "qwen2_moe", "gpt_oss", "llama4_text", "dbrx", "deepseek_v3"])
def test_stacked_experts_computed_again_are_the_models_own(layout, monkeypatch):
    live = anatomy(tiny(layout, sharp=True))
    with torch.no_grad():
        before = live.model(IDS).logits
    module = "weight_atlas.interventions.quantized_inputs.quantized_inputs_of"
    monkeypatch.setattr(module, lambda x, scheme, channels=(): x)
    with quantized_inputs(live, InputScheme("int8", "token")), torch.no_grad():
        assert (live.model(IDS).logits - before).abs().max() < 1e-3 * before.abs().max()
    # The neurons' values are reached too, not only what enters the experts.
    width = {projection.shape[1] for projection in live.projections if projection.stacked}
    monkeypatch.setattr(module, lambda x, scheme, channels=(): x * 0 if x.shape[-1] in width else x)
    with quantized_inputs(live, InputScheme("int8", "token"), which="W_down"), torch.no_grad():
        assert (live.model(IDS).logits - before).abs().max() > 1e-2 * before.abs().max()


def test_a_kept_value_and_the_range_of_the_others():
    x = torch.tensor([[1.0, -1.0, 0.5, 800.0], [0.2, 0.3, -0.1, 0.2]])
    plain = quantized_inputs_of(x, InputScheme("int8", "tensor"))
    assert (plain[0, :3] - x[0, :3]).abs().max() > 0.3
    kept = quantized_inputs_of(x, InputScheme("int8", "tensor"), [3])
    assert kept[0, 3] == 800 and (kept - x).abs().max() <= 2 / 255 / 2 + 1e-6
    # An ordinary value of the channel is rounded like all others, and another channel's outlier is not kept.
    assert kept[1, 3] != x[1, 3] or math.isclose(float(kept[1, 3]), 0.2, abs_tol=1e-2)
    assert torch.equal(quantized_inputs_of(x, InputScheme("int8", "tensor"), [0]), plain)
    assert quantized_inputs_of(x[:0], InputScheme("int8", "token"), [3]).shape == (0, 4)


def test_variants_are_measured_with_every_batch_alike_and_put_side_by_side():
    live = anatomy(tiny("opt", sharp=True))
    place = plant(live, 1, 9, 21)
    settings = {"formats": ["int8"], "granularities": ["channel"], "activations": ["int8/tensor", "int8/token"]}
    expansion = variants_of("q", {"quantize": settings}, live, [place])
    names = [variant.name.removeprefix("q: ") for variant in expansion.variants]
    assert names[:8] == [
        "int8 per channel", "int8 per channel, sparing", "inputs int8 per tensor", "inputs int8 per tensor, keeping",
        "int8 per channel + inputs int8 per tensor", "int8 per channel + inputs int8 per tensor, keeping",
        "int8 per channel + inputs int8 per tensor, sparing",
        "int8 per channel + inputs int8 per tensor, sparing, keeping",
    ]  # fmt: skip
    assert len(names) == len(set(names)) == 14
    scored = torch.ones(IDS.shape, dtype=torch.bool)
    scored[:, 0] = False
    windows = Windows(IDS, scored)
    one, three = (score_variants(live, windows, expansion, batch_size=size)[0] for size in (1, 3))
    assert np.allclose(one.nll, three.nll, rtol=1e-6)
    # The first window, by plain transformers.
    logits = plain_pass(live.model, ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"), "int8", "tensor")
    nll = torch.nn.functional.cross_entropy(logits[0, :-1].double(), IDS[0, 1:], reduction="sum")
    by_variant = one.groupby("variant").nll.first()
    assert by_variant["q: inputs int8 per tensor"] == pytest.approx(float(nll), rel=1e-5)

    described = json.loads(json.dumps(expansion.description("q")))
    found = quantizations(described)
    assert found == {variant.name: variant.change for variant in expansion.variants}
    errors = scheme_errors(live, found)
    baseline = score_variants(live, windows, variants_of("baseline", {}, live, []), batch_size=3)[0]
    impact = impact_table([window_impact("text", one, baseline)], "q", described["variants"])
    table = scheme_table(errors, impact, found).set_index("variant")
    alone, beside = table.loc["q: inputs int8 per token, keeping"], table.loc[f"q: {names[5]}"]
    assert alone.relative_error == 0 and math.isnan(alone.bits) and alone.keeping and not alone.sparing
    assert (alone.plain, alone.inputs, alone.format) == ("inputs int8 per token", "int8 per token", "")
    assert beside.relative_error == table.loc["q: int8 per channel"].relative_error > 0
    assert beside.low < beside.value < beside.high
    labels = [text.get_text() for text in plain_against_sparing(table.reset_index()).axes[0].get_yticklabels()]
    assert labels[0] == "int8 per channel + inputs int8 per token" and len(labels) == 5


def test_an_unknown_way_is_an_error_before_anything_runs():
    live = anatomy(tiny("llama"))
    with pytest.raises(AtlasError, match="activations"):
        variants_of("q", {"quantize": {"activations": ["int8/channel"]}}, live, [])
    plain = variants_of("q", {"quantize": {"formats": ["int8"], "granularities": ["tensor"]}}, live, []).variants
    assert [variant.name for variant in plain] == ["q: int8 per tensor"]
    assert pd.DataFrame(variants_of("q", {"quantize": {"activations": ["int8/token"]}}, live, []).skipped).empty
