"""Quantized checkpoints, against slow loops in float64 written from each format's definition, or other libraries."""

import json
import math

import numpy as np
import pytest
import torch
from packed_files import FP8, bit_stream, check, stored
from safetensors.torch import save_file

pytestmark = pytest.mark.usefixtures("small_pieces")


def test_fp8_blocks(tmp_path, random):
    q, scale = torch.randn(200, 300).to(FP8), torch.rand(2, 3)
    tensors = {"m.weight": q, "m.weight_scale_inv": scale, "m.bias": torch.ones(200).bfloat16()}
    checkpoint = stored(tmp_path, tensors, "fp8", weight_block_size=[128, 128])
    values = q.double().numpy()
    expected = np.array([[values[i, j] * float(scale[i // 128, j // 128]) for j in range(300)] for i in range(200)])
    check(checkpoint, "m.weight", expected, torch.bfloat16, "F8_E4M3+block128")
    entry = checkpoint.entries["m.weight"]
    assert entry.bytes == 200 * 300 + 4 * 6 and entry.parts == ("m.weight", "m.weight_scale_inv")
    assert set(checkpoint.entries) == {"m.weight", "m.bias"}
    assert checkpoint.consumed["m.weight_scale_inv"] == "m.weight"


def test_fp8_blocks_as_transformers_unfolds_them(tmp_path):
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    q, scale = torch.randn(256, 384).to(FP8), torch.rand(2, 3)
    checkpoint = stored(tmp_path, {"m.weight": q, "m.weight_scale_inv": scale}, "fp8", dtype="bfloat16")
    expected = Fp8Dequantize(None)._dequantize_one(q, scale, torch.bfloat16)
    assert torch.equal(checkpoint.read("m.weight"), expected)


@pytest.mark.parametrize(
    ("scale", "kind"),
    [
        (torch.tensor(0.37), "F8_E4M3+tensor"),
        (torch.tensor([0.37]), "F8_E4M3+tensor"),
        (torch.rand(6, 1), "F8_E4M3+channel"),
        (torch.rand(6), "F8_E4M3+channel"),
        (torch.rand(6, 2), "F8_E4M3+group4"),
    ],
)
def test_fp8_by_tensor_channel_and_group(tmp_path, random, scale, kind):
    q = torch.randn(6, 8).to(FP8)
    tensors = {"m.weight": q, "m.weight_scale": scale, "m.input_scale": torch.ones(1)}
    checkpoint = stored(tmp_path, tensors, "compressed-tensors", dtype="float32")
    by_row = scale.double().numpy().reshape(-1, 1) if scale.dim() < 2 else scale.double().numpy().repeat(
        8 // scale.shape[1], axis=1
    )  # fmt: skip
    check(checkpoint, "m.weight", q.double().numpy() * by_row, torch.float32, kind)
    assert set(checkpoint.entries) == {"m.weight"} and checkpoint.consumed["m.input_scale"] == ""


def test_a_stack_of_experts_in_fp8(tmp_path, random):
    q, scale = torch.randn(3, 4, 6).to(FP8), torch.rand(3, 1, 6)
    checkpoint = stored(tmp_path, {"experts.up": q, "experts.up_scale": scale}, "fbgemm_fp8", dtype="float32")
    expected = q.double().numpy() * scale.double().numpy()
    check(checkpoint, "experts.up", expected, torch.float32, "F8_E4M3+channel")


def test_scales_that_are_powers_of_two(tmp_path, random):
    q, exponent = torch.randn(4, 64).to(FP8), torch.randint(120, 130, (4, 2), dtype=torch.uint8)
    expected = q.double().numpy() * 2.0 ** (exponent.double().numpy().repeat(32, axis=1) - 127)
    for scale in (exponent, exponent.view(torch.float8_e8m0fnu)):
        checkpoint = stored(tmp_path, {"m.weight": q, "m.weight_scale": scale}, "modelopt")
        check(checkpoint, "m.weight", expected, torch.bfloat16, "F8_E4M3+group32")


def test_int8_with_zero_points(tmp_path, random):
    q, scale = torch.randint(-128, 128, (4, 8), dtype=torch.int8), torch.rand(4, 1)
    zero = torch.randint(-5, 5, (4, 1), dtype=torch.int8)
    tensors = {"m.weight": q, "m.weight_scale": scale, "m.weight_zero_point": zero}
    checkpoint = stored(tmp_path, tensors, "compressed-tensors", dtype="float32")
    expected = (q.double() - zero.double()).numpy() * scale.double().numpy()
    check(checkpoint, "m.weight", expected, torch.float32, "I8+channel")


def test_int8_of_bitsandbytes(tmp_path, random):
    weight = torch.randn(6, 10)
    largest = weight.abs().amax(dim=1)
    q = (weight / largest[:, None] * 127).round().to(torch.int8)
    tensors = {"m.weight": q, "m.SCB": largest, "m.weight_format": torch.tensor(0, dtype=torch.uint8)}
    checkpoint = stored(tmp_path, tensors, "bitsandbytes", load_in_8bit=True, dtype="float16")
    read = checkpoint.read("m.weight")
    assert read.dtype == torch.float16 and set(checkpoint.entries) == {"m.weight"}
    assert (read.float() - weight).abs().max() <= largest.max() / 127 / 2 + 2e-3


def halves(codes: np.ndarray, first_is_low: bool) -> torch.Tensor:
    """Pack pairs of 4-bit codes along the last dimension into bytes."""
    pairs = codes.reshape(*codes.shape[:-1], -1, 2).astype(np.uint8)
    low, high = (pairs[..., 0], pairs[..., 1]) if first_is_low else (pairs[..., 1], pairs[..., 0])
    return torch.from_numpy(low | (high << 4))


def e2m1(code: int) -> float:
    """A sign bit, two exponent bits with bias 1, one mantissa bit (OCP microscaling formats, 5.3.3)."""
    exponent, mantissa = (code >> 1) & 3, code & 1
    size = mantissa / 2 if exponent == 0 else (1 + mantissa / 2) * 2.0 ** (exponent - 1)
    return -size if code & 8 else size


def test_mxfp4_of_experts(tmp_path, random):
    codes, exponents = random.integers(0, 16, (3, 10, 64)), random.integers(118, 130, (3, 10, 2))
    blocks = halves(codes, first_is_low=True).view(3, 10, 2, 16)
    tensors = {"e.up_blocks": blocks, "e.up_scales": torch.from_numpy(exponents.astype(np.uint8))}
    checkpoint = stored(tmp_path, tensors, "mxfp4")
    expected = np.empty((3, 64, 10))
    for expert, output, place in np.ndindex(3, 10, 64):
        scale = 2.0 ** (exponents[expert, output, place // 32] - 127)
        expected[expert, place, output] = e2m1(int(codes[expert, output, place])) * scale
    check(checkpoint, "e.up", expected, torch.bfloat16, "MXFP4")
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    theirs = convert_moe_packed_tensors(blocks.clone(), tensors["e.up_scales"].clone())
    assert torch.equal(checkpoint.read("e.up"), theirs)


@pytest.mark.parametrize("maker", ["compressed-tensors", "modelopt"])
def test_nvfp4(tmp_path, random, maker):
    codes, scale = random.integers(0, 16, (6, 32)), (torch.rand(6, 2) * 100).to(FP8)
    overall = 400.0
    packed = halves(codes, first_is_low=True)
    if maker == "modelopt":
        tensors = {"m.weight": packed, "m.weight_scale": scale, "m.weight_scale_2": torch.tensor(1 / overall)}
    else:
        names = ("m.weight_packed", "m.weight_scale", "m.weight_global_scale")
        tensors = dict(zip(names, (packed, scale, torch.tensor([overall])), strict=True))
    checkpoint = stored(tmp_path, tensors, maker, dtype="float32")
    scales = scale.double().numpy().repeat(16, axis=1) / overall
    expected = np.vectorize(e2m1)(codes) * scales
    assert checkpoint.entries["m.weight"].dtype == "NVFP4"
    assert np.allclose(checkpoint.read("m.weight").double().numpy(), expected, rtol=3e-7, atol=0)
    assert torch.equal(checkpoint.read("m.weight", slice(2, 5)), checkpoint.read("m.weight")[2:5])


def test_mxfp4_by_weight_and_packed(tmp_path, random):
    codes, exponents = random.integers(0, 16, (6, 64)), random.integers(118, 130, (6, 2)).astype(np.uint8)
    expected = np.vectorize(e2m1)(codes) * 2.0 ** (exponents.astype(float).repeat(32, axis=1) - 127)
    packed, scale = halves(codes, first_is_low=True), torch.from_numpy(exponents)
    for tensors in (
        {"m.weight_packed": packed, "m.weight_scale": scale},
        {"m.weight": packed.view(torch.int8), "m.scale": scale.view(torch.float8_e8m0fnu)},
    ):
        check(stored(tmp_path, tensors, "fp8"), "m.weight", expected, torch.bfloat16, "MXFP4")


@pytest.mark.parametrize("nested", [False, True])
def test_nf4(tmp_path, random, nested):
    from scipy.stats import norm

    # The 16 levels of NF4 (QLoRA, appendix E), and an odd width, so that rows begin in the middle of a byte.
    upper, lower = norm.ppf(np.linspace(0.9677083, 0.5, 9)[:-1]), -norm.ppf(np.linspace(0.9677083, 0.5, 8)[:-1])
    table = torch.from_numpy(np.sort(np.concatenate((upper, [0.0], lower))) / upper.max()).float()
    codes = random.integers(0, 16, (10, 51))
    packed = halves(codes.reshape(1, -1), first_is_low=False).reshape(-1, 1)
    blocks = math.ceil(codes.size / 64)
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [10, 51]}
    tensors = {"m.weight": packed, "m.weight.quant_map": table}
    if nested:
        state |= {"nested_blocksize": 4, "nested_dtype": "float32", "nested_offset": 0.25}
        inner, outer = torch.randint(0, 256, (blocks,), dtype=torch.uint8), torch.rand(math.ceil(blocks / 4))
        levels = torch.linspace(-1, 1, 256)
        tensors |= {"m.weight.absmax": inner, "m.weight.nested_absmax": outer, "m.weight.nested_quant_map": levels}
        largest = [float(levels[int(inner[i])]) * float(outer[i // 4]) + 0.25 for i in range(blocks)]
    else:
        tensors["m.weight.absmax"] = torch.rand(blocks)
        largest = tensors["m.weight.absmax"].tolist()
    text = json.dumps(state).encode()
    tensors["m.weight.quant_state.bitsandbytes__nf4"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    checkpoint = stored(tmp_path, tensors, "bitsandbytes", load_in_4bit=True)
    expected = np.array([float(table[c]) * largest[place // 64] for place, c in enumerate(codes.ravel())])
    read = checkpoint.read("m.weight")
    assert checkpoint.entries["m.weight"].dtype == "NF4" and set(checkpoint.entries) == {"m.weight"}
    assert torch.allclose(read.double(), torch.from_numpy(expected).view(10, 51), rtol=2**-8, atol=1e-7)
    assert torch.equal(checkpoint.read("m.weight", slice(3, 8)), read[3:8])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_packed_integers_of_compressed_tensors(tmp_path, random, bits, symmetric):
    low, width = -(2 ** (bits - 1)), 50  # no whole number of words
    q = random.integers(low, -low, (8, width))
    zero = np.zeros((8, 2), dtype=int) if symmetric else random.integers(low, -low, (8, 2))
    scale = torch.rand(8, 2)
    tensors = {
        "m.weight_packed": bit_stream((q - low).T, bits).T,
        "m.weight_scale": scale,
        "m.weight_shape": torch.tensor([8, width]),
    }
    if not symmetric:
        tensors["m.weight_zero_point"] = bit_stream(zero - low, bits)
    groups = {"group_0": {"weights": {"num_bits": bits}}}
    checkpoint = stored(tmp_path, tensors, "compressed-tensors", config_groups=groups, dtype="float32")
    expected = np.empty((8, width))
    for o, i in np.ndindex(8, width):
        expected[o, i] = (q[o, i] - zero[o, i // 25]) * float(scale[o, i // 25])
    check(checkpoint, "m.weight", expected, torch.float32, f"INT{bits}")


@pytest.mark.slow
def test_memory_is_bounded_by_the_unfolded_tensor(tmp_path, growth_of):
    size = 6144
    ones = torch.ones(1).to(FP8).expand(size, size).contiguous()
    for i in range(3):
        save_file(
            {f"m{i}.weight": ones, f"m{i}.weight_scale_inv": torch.ones(48, 48)},
            tmp_path / f"{i}.safetensors",
        )
    code = """
import resource, sys, torch
from weight_atlas.checkpoint.checkpoint import Checkpoint
torch.ones(4).to(torch.bfloat16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
checkpoint = Checkpoint.from_folder(sys.argv[1])
for name in checkpoint.entries:
    assert checkpoint.read(name)[-1, -1] == 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert growth_of(code, tmp_path) < 2 * size * size + 80e6
