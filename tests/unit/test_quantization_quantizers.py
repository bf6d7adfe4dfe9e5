"""Quantization there and back, against plain numpy and torch's own fake quantization."""

import numpy as np
import pytest
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.quantization.formats import FORMATS, NF4_LEVELS
from weight_atlas.quantization.quantizers import Scheme, bits_per_weight, error_of, quantized


def matrix(rows=6, cols=40, seed=0):
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def blocks_of(w, granularity):
    """Index arrays of the weights that share a scale, one by one."""
    rows, cols = w.shape
    places = np.arange(rows * cols).reshape(rows, cols)
    kind, _, size = granularity.partition(":")
    if kind == "tensor":
        return [places.ravel()]
    if kind == "channel":
        return list(places)
    if kind == "group":
        return [row[start : start + int(size)] for row in places for start in range(0, cols, int(size))]
    flat = places.ravel()
    return [flat[start : start + int(size)] for start in range(0, len(flat), int(size))]


def nearest(values, levels):
    return levels[np.abs(values[:, None] - levels[None]).argmin(1)]


def fp8_numbers(exponent_bits, mantissa_bits, bias, largest):
    numbers = {0.0}
    for exponent in range(2**exponent_bits):
        for mantissa in range(2**mantissa_bits):
            fraction = mantissa / 2**mantissa_bits
            value = 2.0 ** (1 - bias) * fraction if exponent == 0 else 2.0 ** (exponent - bias) * (1 + fraction)
            numbers |= {value, -value} if value <= largest else set()
    return np.array(sorted(numbers))


def by_hand(w, format_, granularity, symmetric):
    flat = w.double().numpy().ravel()
    out = np.empty_like(flat)
    for places in blocks_of(w, granularity):
        block = flat[places]
        peak = np.abs(block).max()
        if format_ == "nf4":
            out[places] = nearest(block / peak, np.array(NF4_LEVELS)) * peak
        elif format_.startswith("fp8"):
            numbers = fp8_numbers(4, 3, 7, 448) if format_ == "fp8_e4m3" else fp8_numbers(5, 2, 15, 57344)
            scale = peak / numbers.max()
            out[places] = nearest(block / scale, numbers) * scale
        elif format_ in ("mxfp4", "nvfp4"):
            numbers = fp8_numbers(2, 1, 1, 6)
            if format_ == "mxfp4":
                scale = 2.0 ** (np.floor(np.log2(peak)) - 2)
            else:
                whole = np.abs(flat).max() / (6 * 448)
                scale = nearest(np.array([peak / 6 / whole]), fp8_numbers(4, 3, 7, 448))[0] * whole
            out[places] = nearest(block / scale, numbers) * scale
        elif symmetric:
            levels = 2 ** (int(format_[3:]) - 1) - 1
            out[places] = np.round(block / (peak / levels)) * (peak / levels)
        else:
            step = (block.max() - block.min()) / (2 ** int(format_[3:]) - 1)
            out[places] = np.round((block - block.min()) / step) * step + block.min()
    return out.reshape(w.shape)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:16", "block:64"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_every_scheme_is_what_its_formula_says(format_, granularity, symmetric):
    w = matrix()
    ours = quantized(w, Scheme(format_, granularity, symmetric)).numpy()
    expected = by_hand(w, format_, granularity, symmetric)
    # float32 against float64 may round a tie the other way, by one level.
    off = ~np.isclose(ours, expected, atol=1e-5)
    assert off.mean() < 0.01


def test_int8_per_channel_is_torchs():
    w = matrix()
    scale = w.abs().amax(1) / 127
    zero = torch.zeros(len(w), dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(w, scale, zero, 0, -127, 127)
    assert torch.allclose(quantized(w, Scheme("int8", "channel", symmetric=True)), expected, atol=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_quantizing_twice_changes_nothing_more(symmetric):
    for granularity in ("tensor", "group:16"):
        scheme = Scheme("int4", granularity, symmetric)
        once = quantized(matrix(), scheme)
        assert torch.allclose(quantized(once, scheme), once, atol=1e-6)


def test_the_full_range_has_the_lowest_level_too():
    w = torch.tensor([[-1.5, -0.7, 0.1, 1.4], [1.5, 0.75, -1.2, 0.0]])
    ours = quantized(w, Scheme.named("int2/channel/full"))
    step = w.abs().amax(1, keepdim=True) / 1.5
    assert torch.allclose(ours, torch.clamp(torch.round(w / step), -2, 1) * step)
    # As torch has it, with these scales and limits.
    expected = torch.fake_quantize_per_channel_affine(w, step[:, 0], torch.zeros(2, dtype=torch.int32), 0, -2, 1)
    assert torch.allclose(ours, expected)


def test_clipping_bounds_magnitudes_by_their_own_mean_and_deviation():
    w = matrix()
    w[2, 3] = 80.0
    size = np.abs(w.double().numpy())
    bound = size.mean() + 3 * size.std()
    assert quantized(w, Scheme("int8", "tensor", clip=3.0)).abs().max().item() == pytest.approx(bound, rel=1e-5)
    plain, clipped = (error_of(w[:2], quantized(w, Scheme("int4", clip=clip))[:2])["mse"] for clip in (None, 3.0))
    assert clipped < plain / 5


def test_equal_weights_and_zeros_come_back():
    for format_ in FORMATS:
        for value in (0.0, 0.25):
            w = torch.full((2, 4), value)
            assert torch.allclose(quantized(w, Scheme(format_)), w, atol=1e-6)


def test_a_short_last_block_has_its_own_range():
    w = torch.cat([torch.full((1, 4), 100.0), torch.tensor([[0.1, 0.2]])], dim=1)
    assert torch.allclose(quantized(w, Scheme("int8", "block:4")), w, atol=1e-3)


def test_bits_count_scales():
    assert bits_per_weight((8, 128), Scheme("int4", "group:64", symmetric=True)) == 4.25
    assert bits_per_weight((8, 128), Scheme("int4", "group:64")) == 4.5
    assert bits_per_weight((8, 128), Scheme("nf4", "channel")) == 4.125
    assert bits_per_weight((8, 100), Scheme("fp8_e4m3", "block:256")) == 8 + 4 * 16 / 800


def test_errors_are_those_of_numpy():
    w, q = matrix(), matrix(seed=1)
    a, b = w.double().numpy(), q.double().numpy()
    error = error_of(w, q)
    relative = np.linalg.norm(a - b) / np.linalg.norm(a)
    assert error["mse"] == pytest.approx(((a - b) ** 2).mean())
    assert error["relative_error"] == pytest.approx(relative)
    assert error["sqnr_db"] == pytest.approx(-20 * np.log10(relative))
    assert error["worst_row"] == pytest.approx((np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)).max())
    assert error_of(w, w)["sqnr_db"] == float("inf")
    # Relative errors have no unit.
    small = error_of(w * 2.0**-20, q * 2.0**-20)
    assert all(small[name] == pytest.approx(error[name]) for name in ("relative_error", "sqnr_db", "worst_row"))
    assert error_of(torch.zeros(2, 3), torch.zeros(2, 3))["worst_row"] == 0


@pytest.mark.parametrize(
    "bad", [("int9", "tensor"), ("int4", "rows"), ("int4", "group"), ("int4", "tensor:4"), ("int4", "group:1")]
)
def test_unknown_schemes_are_refused(bad):
    with pytest.raises(AtlasError, match=r"no quantization|no granularity"):
        Scheme(*bad)
