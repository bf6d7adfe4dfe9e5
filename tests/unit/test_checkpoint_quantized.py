"""Quantized checkpoints, against slow loops in float64 written from each format's definition, or other libraries."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError

FP8 = torch.float8_e4m3fn


def stored(folder, tensors: dict, method: str | None = None, **settings) -> Checkpoint:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    top = {key: settings.pop(key) for key in ("dtype",) if key in settings}
    config = top | ({"quantization_config": {"quant_method": method, **settings}} if method else {})
    (folder / "config.json").write_text(json.dumps(config))
    return Checkpoint.from_folder(folder)


def check(checkpoint: Checkpoint, name: str, expected: np.ndarray, dtype: torch.dtype, kind: str) -> None:
    """The values, whole and by rows, are those expected, rounded once to dtype."""
    entry, read = checkpoint.entries[name], checkpoint.read(name)
    assert (entry.dtype, entry.shape, read.shape, read.dtype) == (kind, expected.shape, expected.shape, dtype)
    assert torch.equal(read, torch.from_numpy(expected).to(torch.float32).to(dtype))
    for rows in (slice(1, 3), slice(2, None), slice(0, 0)):
        assert torch.equal(checkpoint.read(name, rows), read[rows])


@pytest.fixture
def random():
    torch.manual_seed(0)
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small_pieces(request, monkeypatch):
    # Several pieces even for small tensors.
    monkeypatch.setattr("weight_atlas.checkpoint.quantized.scheme._ELEMENTS_AT_ONCE", 500)


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


def bit_stream(codes: np.ndarray, bits: int) -> torch.Tensor:
    """Integers along dimension 0 as one stream of bits, cut into 32-bit words; lowest bits first."""
    columns = []
    for column in codes.T:
        stream = sum(int(code) << (bits * place) for place, code in enumerate(column))
        words = math.ceil(len(column) * bits / 32)
        columns.append([(stream >> (32 * word)) & 0xFFFFFFFF for word in range(words)])
    return torch.from_numpy(np.array(columns, dtype=np.uint32).view(np.int32).T.copy())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
def test_gptq(tmp_path, random, bits, version):
    q, zero = random.integers(0, 2**bits, (64, 32)), random.integers(0, 2**bits, (2, 32))
    scale = torch.rand(2, 32).half()
    group = random.permutation(np.repeat([0, 1], 32)).astype(np.int32)
    on_disk = (zero - 1) % 2**bits if version == "gptq" else zero
    tensors = {
        "m.qweight": bit_stream(q, bits),
        "m.qzeros": bit_stream(on_disk.T, bits).T,
        "m.scales": scale,
        "m.g_idx": torch.from_numpy(group),
    }
    checkpoint = stored(tmp_path, tensors, "gptq", bits=bits, checkpoint_format=version)
    expected = np.empty((32, 64))
    for i, o in np.ndindex(64, 32):
        expected[o, i] = (q[i, o] - zero[group[i], o]) * float(scale[group[i], o])
    check(checkpoint, "m.weight", expected, torch.float16, f"GPTQ{bits}")
    assert set(checkpoint.entries) == {"m.weight"}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(
    ("settings", "stored_version", "said"),
    [
        ({"checkpoint_format": "gptq"}, 1, ""),
        ({"checkpoint_format": "gptq"}, 2, "version 2 of GPTQ, where the settings say version 1"),
        ({"checkpoint_format": "gptq_v2"}, 2, ""),
        ({"checkpoint_format": "gptq_v2"}, 1, "version 1 of GPTQ, where the settings say version 2"),
        ({"format": "gptq_v2"}, 2, ""),
        ({}, 1, ""),
        ({}, 2, "version 2 of GPTQ, where settings that do not say mean version 1"),
        ({"quant_method": "auto-round", "packing_format": "auto_round:auto_gptq"}, 1, ""),
        ({"quant_method": "auto-round", "packing_format": "auto_round:auto_gptq"}, 2, "version 2 of GPTQ"),
        ({"quant_method": "auto-round", "packing_format": "auto_round"}, 2, ""),
        ({"quant_method": "auto-round", "packing_format": "auto_round:gptqmodel"}, 2, ""),
    ],
    ids=str,
)
def test_zeros_of_a_symmetric_gptq_matrix_tell_their_version(tmp_path, random, bits, settings, stored_version, said):
    middle = 2 ** (bits - 1)
    q, scale = random.integers(0, 2**bits, (64, 32)), torch.rand(2, 32).half()
    group = random.permutation(np.repeat([0, 1], 32)).astype(np.int32)
    tensors = {
        "m.qweight": bit_stream(q, bits),
        "m.qzeros": bit_stream(np.full((32, 2), middle - (stored_version == 1)), bits).T,
        "m.scales": scale,
        "m.g_idx": torch.from_numpy(group),
    }
    method = settings.get("quant_method", "gptq")
    more = {key: value for key, value in settings.items() if key != "quant_method"}
    checkpoint = stored(tmp_path, tensors, method, bits=bits, sym=True, desc_act=True, **more)
    expected = ((q - middle) * scale.double().numpy()[group]).T
    check(checkpoint, "m.weight", expected, torch.float16, f"GPTQ{bits}")
    assert said in checkpoint.entries["m.weight"].remark and bool(said) == bool(checkpoint.entries["m.weight"].remark)


@pytest.mark.parametrize(("sym", "zero"), [(False, 8), (True, None)])
def test_zeros_that_do_not_contradict_their_settings_are_read_as_declared(tmp_path, random, sym, zero):
    q, scale = random.integers(0, 16, (64, 32)), torch.rand(2, 32).half()
    on_disk = random.integers(0, 16, (2, 32)) if zero is None else np.full((2, 32), zero)
    tensors = {"m.qweight": bit_stream(q, 4), "m.qzeros": bit_stream(on_disk.T, 4).T, "m.scales": scale}
    checkpoint = stored(tmp_path, tensors, "gptq", bits=4, sym=sym, checkpoint_format="gptq")
    expected = ((q - ((on_disk + 1) % 16).repeat(32, axis=0)) * scale.double().numpy().repeat(32, axis=0)).T
    check(checkpoint, "m.weight", expected, torch.float16, "GPTQ4")
    assert checkpoint.entries["m.weight"].remark == ""


def test_zeros_whose_version_cannot_be_told_are_refused(tmp_path, random):
    on_disk = np.stack((np.full(32, 8), random.integers(0, 16, 32)))
    words = {"m.qweight": bit_stream(random.integers(0, 16, (64, 32)), 4), "m.scales": torch.rand(2, 32).half()}
    checkpoint = stored(tmp_path, words | {"m.qzeros": bit_stream(on_disk.T, 4).T}, "gptq", sym=True)
    with pytest.raises(AtlasError, match="version of the GPTQ format cannot be told") as caught:
        checkpoint.read("m.weight")
    assert caught.value.where == "m.qzeros" and "checkpoint_format" in caught.value.remedy


def test_what_is_packed_into_other_words_is_listed_with_the_reason(tmp_path):
    words = {"m.qweight": torch.zeros(16, 8).short(), "m.qzeros": torch.zeros(1, 2).short()}
    checkpoint = stored(tmp_path, words | {"m.scales": torch.ones(1, 8)}, "gptq", bits=4, pack_dtype="int16")
    assert checkpoint.entries["m.weight"].note == "packed into words of type I16, which are not read"


def test_awq(tmp_path, random):
    q, zero, scale = random.integers(0, 16, (64, 24)), random.integers(0, 16, (2, 24)), torch.rand(2, 24).half()

    def packed(values: np.ndarray) -> torch.Tensor:
        # AutoAWQ's packing loop: place i of a word holds output order[i].
        words = np.zeros((len(values), values.shape[1] // 8), dtype=np.uint32)
        for row, word in np.ndindex(words.shape):
            for place, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
                words[row, word] |= np.uint32(int(values[row, 8 * word + output]) << (4 * place))
        return torch.from_numpy(words.view(np.int32))

    tensors = {"m.qweight": packed(q), "m.qzeros": packed(zero), "m.scales": scale}
    checkpoint = stored(tmp_path, tensors, "awq", bits=4, version="gemm")
    expected = np.empty((24, 64))
    for i, o in np.ndindex(64, 24):
        expected[o, i] = (q[i, o] - zero[i // 32, o]) * float(scale[i // 32, o])
    check(checkpoint, "m.weight", expected, torch.float16, "AWQ4")


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


STATE = "m.weight.quant_state.bitsandbytes__nf4"


@pytest.mark.parametrize(
    ("method", "tensors", "lost"),
    [
        ("fp8", {"m.weight": torch.zeros(4, 4).to(FP8)}, "m.weight .* scale"),
        ("bitsandbytes", {"m.weight": torch.zeros(4, 4, dtype=torch.int8)}, "m.weight .* scale"),
        ("mxfp4", {"m_blocks": torch.zeros(2, 4, 2, 16, dtype=torch.uint8)}, "m_scales"),
        (None, {"m.qweight": torch.zeros(4, 8).int(), "m.qzeros": torch.zeros(1, 1).int()}, "m.scales"),
        (None, {"m.qweight": torch.zeros(4, 8).int(), "m.scales": torch.zeros(1, 8)}, "m.qzeros"),
        (None, {"m.weight_packed": torch.zeros(4, 8).int()}, "m.weight_scale"),
        (None, {"m.weight_packed": torch.zeros(4, 8, dtype=torch.uint8)}, "m.weight_scale"),
        (None, {"m.weight": torch.zeros(8, 1, dtype=torch.uint8), "m.weight.absmax": torch.ones(1)}, "quant_state"),
    ],
)
def test_scales_missing_beside_packed_weights(tmp_path, method, tensors, lost):
    with pytest.raises(AtlasError, match=f"is packed, but its .*{lost.split()[-1]}") as caught:
        stored(tmp_path, tensors, method)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "tensors",
    [
        {"m.weight": torch.zeros(4, 4).to(FP8), "m.weight_scale": torch.ones(3, 1)},
        {"m.weight": torch.zeros(4, 4).to(FP8), "m.weight_scale": torch.ones(3)},
        {"m_blocks": torch.zeros(4, 2, 16, dtype=torch.uint8), "m_scales": torch.zeros(4, 3, dtype=torch.uint8)},
        {"m.qweight": torch.zeros(4, 8).int(), "m.qzeros": torch.zeros(2, 1).int(), "m.scales": torch.zeros(1, 8)},
        {"m.weight_packed": torch.zeros(4, 8).int(), "m.weight_scale": torch.ones(3, 1)},
    ],
)
def test_scales_of_another_shape(tmp_path, tensors):
    with pytest.raises(AtlasError, match="do not fit together"):
        stored(tmp_path, tensors)


@pytest.mark.parametrize(
    "settings",
    [
        {"config_groups": [1]},
        {"config_groups": {"group_0": "x"}},
        {"config_groups": {"group_0": {"weights": 5}}},
        {"config_groups": {"group_0": {"weights": {"num_bits": "4"}}}},
        {"config_groups": {"group_0": {"weights": {"num_bits": -4}}}},
        {"weight_block_size": 128},
        {"weight_block_size": ["a", "b"]},
        {"weight_block_size": [0, 128]},
    ],
    ids=str,
)
def test_settings_of_another_structure(tmp_path, settings):
    tensors = {"m.weight": torch.zeros(256, 256).to(FP8), "m.weight_scale_inv": torch.ones(2, 2)}
    with pytest.raises(AtlasError, match=f"{next(iter(settings))} has another structure"):
        stored(tmp_path, tensors, "fp8", **settings)


@pytest.mark.parametrize(
    "change",
    [{"dtype": "__class__"}, {"dtype": []}, {"shape": ["x"]}, {"shape": [-4, -4]}, {"blocksize": 0}, {"shape": []},
     {"nested_blocksize": "x"}],
    ids=str,
)  # fmt: skip
def test_an_nf4_state_that_cannot_be_true(tmp_path, change):
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [4, 4]} | change
    tensors = {
        "m.weight": torch.zeros(8, 1, dtype=torch.uint8),
        "m.weight.absmax": torch.ones(1),
        "m.weight.quant_map": torch.zeros(16),
        STATE: torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8),
    }
    with pytest.raises(AtlasError, match="is not readable"):
        stored(tmp_path, tensors, "bitsandbytes", load_in_4bit=True)


def test_what_cannot_be_unfolded_is_listed_with_the_reason(tmp_path):
    codes = torch.zeros(4, 8, dtype=torch.uint8)
    checkpoint = stored(tmp_path, {"m.W_q": codes, "m.bias": torch.ones(4)}, "hqq")
    assert checkpoint.entries["m.W_q"].note == "packed by method hqq, which is not read"
    assert torch.equal(checkpoint.read("m.bias"), torch.ones(4))
    with pytest.raises(AtlasError, match="packed by method hqq"):
        checkpoint.read("m.W_q")
    words = {"m.qweight": torch.zeros(4, 8).int(), "m.qzeros": torch.zeros(1, 1).int(), "m.scales": torch.ones(1, 8)}
    checkpoint = stored(tmp_path, words, "gptq", checkpoint_format="marlin")
    assert "marlin" in checkpoint.entries["m.weight"].note
    with pytest.raises(AtlasError, match="marlin"):
        checkpoint.read("m.weight")


def test_settings_beside_the_configuration(tmp_path):
    (tmp_path / "quantize_config.json").write_text('{"bits": 4, "checkpoint_format": "marlin"}')
    words = {"m.qweight": torch.zeros(4, 8).int(), "m.qzeros": torch.zeros(1, 1).int(), "m.scales": torch.ones(1, 8)}
    assert "marlin" in stored(tmp_path, words).entries["m.weight"].note


def test_plain_checkpoints_are_left_alone(tmp_path):
    tensors = {
        "embeddings.position_ids": torch.arange(8).view(1, 8),
        "m.weight": torch.randn(4, 4),
        "m.weight_scale": torch.ones(4),
        "m.mask": torch.ones(4, 4, dtype=torch.uint8),
        "m.fp8": torch.ones(4, 4).to(FP8),
    }
    checkpoint = stored(tmp_path, tensors)
    assert set(checkpoint.entries) == set(tensors) and not checkpoint.consumed
    assert all(torch.equal(checkpoint.read(name).float(), tensor.float()) for name, tensor in tensors.items())


def test_memory_is_bounded_by_the_unfolded_tensor(tmp_path):
    size = 6144
    for i in range(3):
        save_file(
            {f"m{i}.weight": torch.ones(size, size).to(FP8), f"m{i}.weight_scale_inv": torch.ones(48, 48)},
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
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    kibibyte = 1 if sys.platform == "linux" else 1024
    assert int(done.stdout) * 1024 < (2 * size * size + 80e6) * kibibyte
