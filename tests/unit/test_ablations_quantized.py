"""Quantization as an ablation: which matrices it reaches, what is spared, and the errors of weights."""

import numpy as np
import pytest
import torch
from live_models import tiny
from test_ablations_variants import TARGETS, snapshot

from weight_atlas.ablations.variants import variants_of
from weight_atlas.interventions.intervention import applied
from weight_atlas.interventions.quantized_layers import layer_matrices, quantized_layers, sixteen_bits, weight_errors
from weight_atlas.live.anatomy import anatomy
from weight_atlas.quantization.quantizers import Scheme, quantized


@pytest.fixture(scope="module")
def live():
    return anatomy(tiny("llama"))


@pytest.mark.parametrize("layout", ["llama", "gpt2", "mixtral", "gpt_oss", "phi3"])
def test_quantization_reaches_all_matrices_but_no_others(layout):
    live = anatomy(tiny(layout))
    before = snapshot(live)
    with quantized_layers(live, Scheme("int4", "channel")):
        touched = {name for name, now in live.model.named_parameters() if not torch.equal(before[name], now)}
        expected = {
            name
            for name, weight in before.items()
            if weight.ndim >= 2 and ("layers." in name or ".h." in name)
            if not any(word in name for word in ("norm", "router", "mlp.gate.", "bias", "sinks"))
        }
        assert touched == expected
        # Every half of a fused matrix and every expert, once.
        sizes = sum(view.numel() for _, _, view in layer_matrices(live))
        assert sizes == sum(before[name].numel() for name in expected)
    assert all(torch.equal(before[name], now) for name, now in live.model.named_parameters())


def test_a_matrix_is_quantized_along_its_logical_rows():
    live = anatomy(tiny("gpt2"))
    stored = live.projections[0].matrix().clone()
    with quantized_layers(live, Scheme("int4", "channel")):
        assert torch.allclose(live.projections[0].matrix(), quantized(stored, Scheme("int4", "channel")))


def test_spared_weights_keep_their_value_and_count_in_the_errors(live):
    scheme = Scheme("int4", "tensor", clip=1.0)
    value = live.projections[1].matrix()[5, 9].item()
    originals = {name: view.clone() for _, name, view in layer_matrices(live, "W_down")}
    errors = weight_errors(live, scheme, TARGETS, "W_down").set_index("name")
    with quantized_layers(live, scheme, TARGETS, "W_down"):
        # As it would be kept beside the quantized weights, in 16 bits.
        assert live.projections[1].matrix()[5, 9].item() == float(np.float16(value)) != value
        for _, name, view in layer_matrices(live, "W_down"):
            difference = (view - originals[name]).double().numpy()
            assert errors.squared_error[name] == pytest.approx((difference**2).sum(), rel=1e-6)
    assert len(errors) == len(live.layers)


def test_spared_weights_are_kept_in_sixteen_bits():
    value = torch.tensor(0.123456789)
    assert sixteen_bits(value) == value.half().float() != value
    large = torch.tensor(123456.0)
    assert sixteen_bits(large) == large.bfloat16().float() != large
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(sixteen_bits(value.to(dtype)), value.to(dtype))
    # Below the range of float16.
    assert sixteen_bits(torch.tensor(1e-20, dtype=torch.bfloat16)) > 0


def test_errors_are_of_what_a_model_in_sixteen_bits_holds():
    live = anatomy(tiny("llama").bfloat16())
    scheme = Scheme("int8", "channel")
    originals = {name: view.clone() for _, name, view in layer_matrices(live)}
    errors = weight_errors(live, scheme, TARGETS).set_index("name")
    with quantized_layers(live, scheme, TARGETS):
        for _, name, view in layer_matrices(live):
            held = float(((view.double() - originals[name].double()) ** 2).sum())
            assert errors.squared_error[name] == pytest.approx(held, rel=1e-12), name


def test_sparing_clips_at_its_own_z_and_plain_not_at_all(live):
    settings = {"formats": ["int4"], "granularities": ["tensor"], "clip": 2.5, "symmetric": True, "matrices": "W_down"}
    plain, sparing = variants_of("q", {"quantize": settings}, live, TARGETS).variants
    assert plain.change.scheme == Scheme("int4", "tensor", True, None) and plain.change.spared == ()
    assert sparing.change.scheme == Scheme("int4", "tensor", True, 2.5) and sparing.change.spared == tuple(TARGETS)
    assert plain.change.matrices == sparing.change.matrices == "W_down"
    stored = live.projections[0].matrix().clone()
    size = stored.abs().double()
    bound = float(size.mean() + 2.5 * size.std(correction=0))
    with applied(live, sparing):
        assert live.projections[0].matrix().abs().max().item() == pytest.approx(bound, rel=1e-5)
    with applied(live, plain):
        assert live.projections[0].matrix().abs().max().item() == pytest.approx(float(size.max()), rel=1e-5)
