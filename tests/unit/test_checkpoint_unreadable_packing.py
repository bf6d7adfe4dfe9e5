"""Packed weights that cannot be read, and tensors that only look like them."""

import json

import pytest
import torch
from packed_files import FP8, stored

from weight_atlas.errors import AtlasError

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
    "tensors",
    [
        {"m.qweight": torch.zeros(4, 8).int(), "m.qzeros": torch.zeros(0, 1).int(), "m.scales": torch.zeros(0, 8)},
        {"m.qweight": torch.zeros(1, 1).int(), "m.qzeros": torch.zeros(0, 1).int(), "m.scales": torch.zeros(0, 8)},
    ],
    ids=["gptq", "awq"],
)
def test_scales_of_no_group(tmp_path, tensors):
    with pytest.raises(AtlasError, match="do not fit together"):
        stored(tmp_path, tensors).read("m.weight")


def test_packed_integers_without_rows_or_of_three_dimensions(tmp_path):
    checkpoint = stored(tmp_path, {"m.weight_packed": torch.zeros(0, 2).int(), "m.weight_scale": torch.ones(0, 1)})
    assert checkpoint.entries["m.weight"].shape == checkpoint.read("m.weight").shape == (0, 16)
    checkpoint = stored(tmp_path, {"m.weight_packed": torch.zeros(2, 4, 1).int(), "m.weight_scale": torch.ones(2, 4)})
    assert checkpoint.entries["m.weight"].note == "packed in 3 dimensions, which is not read"


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
