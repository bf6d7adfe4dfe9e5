"""Matrices packed by GPTQ and AWQ, against slow loops in float64, and zeros that tell their version."""

import numpy as np
import pytest
import torch
from packed_files import bit_stream, check, stored

from weight_atlas.errors import AtlasError

pytestmark = pytest.mark.usefixtures("small_pieces")


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
