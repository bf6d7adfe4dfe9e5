"""The number formats of recipes: ggml's blocks against gguf."""

import gguf
import numpy as np
import pytest
from gguf import quants
from recipe_models import normal

from weight_atlas.quantization.recipes import ggml
from weight_atlas.quantization.recipes.types import TYPES

# ggml's formats.


@pytest.mark.parametrize("name", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_legacy_types_are_ggufs(name):
    w, kind = normal(3, 64), gguf.GGMLQuantizationType[name.upper()]
    assert np.array_equal(ggml.rounded(w, name), quants.dequantize(quants.quantize(w, kind), kind))
    size, bytes_ = gguf.GGML_QUANT_SIZES[kind]
    assert next(each.bits for each in TYPES["llama.cpp"] if each.name == name) == bytes_ * 8 / size


@pytest.mark.parametrize("name", ["q2_K", "q3_K", "q4_K", "q5_K", "q6_K"])
def test_sizes_of_k_quants_are_ggufs(name):
    size, bytes_ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]]
    kind = next(each for each in TYPES["llama.cpp"] if each.name == name)
    assert (kind.block, kind.bits) == (size, bytes_ * 8 / size)


def packed_q6(values, d, scales):
    """One q6_K block from levels (256,) in -32 .. 31, its float16 and its sixteen scales, as ggml lays it out."""
    codes = (values + 32).astype(np.uint8)
    low, high = np.zeros(128, np.uint8), np.zeros(64, np.uint8)
    for half in range(2):
        part = codes[128 * half :][:128]
        for i in range(32):
            a, b, c, e = (part[i + 32 * k] for k in range(4))
            low[64 * half + i], low[64 * half + 32 + i] = (a & 15) | (c & 15) << 4, (b & 15) | (e & 15) << 4
            high[32 * half + i] = (a >> 4) | (b >> 4) << 2 | (c >> 4) << 4 | (e >> 4) << 6
    scale = np.frombuffer(scales.astype(np.int8).tobytes(), np.uint8)
    return np.concatenate([low, high, scale, np.frombuffer(np.float16(d).tobytes(), np.uint8)])


def test_what_a_k_quants_bytes_hold_comes_back():
    """Packed by ggml's layout and read by gguf, weights on the format's own grid are found again."""
    random = np.random.default_rng(0)
    levels = random.integers(-32, 32, 256)
    levels[::16] = -32  # so that the largest weight of a sub-block is on its last level
    scales = random.integers(-127, 127, 16)
    scales[scales == 0], scales[5] = 1, -128
    block = packed_q6(levels, 0.0123, scales)
    w = quants.dequantize(block.reshape(1, -1), gguf.GGMLQuantizationType.Q6_K).astype(np.float32)
    assert w.reshape(-1) == pytest.approx(np.float32(np.float16(0.0123)) * np.repeat(scales, 16) * levels)
    assert ggml.rounded(w, "q6_K") == pytest.approx(w, rel=1e-5)


@pytest.mark.parametrize(("name", "least"), [("q2_K", 9.5), ("q3_K", 15), ("q4_K", 22), ("q5_K", 28), ("q6_K", 34)])
def test_k_quants_have_few_levels_and_the_error_that_is_known_of_them(name, least):
    w = normal(8, 512)
    ours = ggml.rounded(w, name)
    sub, levels = {"q2_K": (16, 4), "q3_K": (16, 8), "q4_K": (32, 16), "q5_K": (32, 32), "q6_K": (16, 64)}[name]
    assert max(len(np.unique(block)) for block in ours.reshape(-1, sub)) <= levels
    assert 10 * np.log10((w**2).sum() / ((w - ours) ** 2).sum()) > least
    # A second time nothing much changes, and signs and zeros stay.
    assert np.array_equal(ggml.rounded(np.zeros((1, 256), np.float32), name), np.zeros((1, 256), np.float32))
    mirrored = ggml.rounded(-w, name) if name in ("q3_K", "q6_K") else -ours
    assert np.abs(mirrored + ours).max() < 0.04
