"""PyTorch files: indexed without their data, read by tensor and rows, and refused where they want to run code."""

import argparse
import json
import os
import warnings

import pytest
import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.ties import same_values


def opened(tmp_path, content, key=None, name="model.pt"):
    torch.save(content, tmp_path / name)
    return Checkpoint.from_folder(tmp_path, key=key)


def same(read: torch.Tensor, expected: torch.Tensor) -> bool:
    parts = [part.detach().contiguous().reshape(-1).view(torch.uint8) for part in (read, expected)]
    return read.dtype == expected.dtype and read.shape == expected.shape and torch.equal(*parts)


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    large, weight = torch.randn(10, 20), torch.randn(6, 8).bfloat16()
    return {
        "weight": weight,
        "tied": weight,
        "transposed": weight.t(),
        "view": large[3:7, 2:9],
        "every_other": large[::2, ::3],
        "expanded": large[:1].expand(4, 20),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 3),
        "integers": torch.arange(4),
        "mask": torch.tensor([True, False]),
        "fp8": torch.randn(4, 2).to(torch.float8_e4m3fn),
    }


def test_tensors_of_every_layout(tmp_path, tensors):
    checkpoint = opened(tmp_path, tensors)
    assert list(checkpoint.entries) == list(tensors)
    for name, expected in tensors.items():
        assert same(checkpoint.read(name), expected), name
        assert (checkpoint.entries[name].shape, checkpoint.entries[name].bytes) == (expected.shape, expected.nbytes)
        if expected.dim():
            for rows in (slice(1, 3), slice(2, None), slice(0, 0)):
                assert same(checkpoint.read(name, rows), expected[rows]), (name, rows)
    tied, weight = checkpoint.entries["tied"], checkpoint.entries["weight"]
    assert (tied.shard, tied.offset) == (weight.shard, weight.offset)


def test_tensors_under_a_key(tmp_path, tensors):
    content = {
        "step": 3,
        "model_state_dict": tensors,
        "ema": {"model.v1": {"w": tensors["weight"]}},
        "optimizer": {"state": {0: {"exp_avg": tensors["weight"]}}},
    }
    with pytest.raises(AtlasError, match="several sets of tensors") as caught:
        opened(tmp_path, content)
    assert "model_state_dict (12 tensors)" in caught.value.remedy
    checkpoint = opened(tmp_path, content, key="model_state_dict")
    assert list(checkpoint.entries) == list(tensors)
    assert same(checkpoint.read("transposed"), tensors["transposed"])
    assert list(opened(tmp_path, content, key="ema.model.v1").entries) == ["w"]
    for key in ("step", "nothing", "ema", "ema.model"):
        with pytest.raises(AtlasError, match="no tensors under the key") as caught:
            opened(tmp_path, content, key=key)
        assert "model_state_dict" in caught.value.remedy


def test_the_only_set_of_tensors_needs_no_key(tmp_path, tensors):
    assert list(opened(tmp_path, {"step": 3, "state_dict": {"w": tensors["weight"]}}).entries) == ["w"]
    with pytest.raises(AtlasError, match="no tensors in this file"):
        opened(tmp_path, {"step": 3})


def test_shards_with_an_index(tmp_path, tensors):
    torch.save({"weight": tensors["weight"]}, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save({"view": tensors["view"]}, tmp_path / "pytorch_model-00002-of-00002.bin")
    mapping = {f: f"pytorch_model-0000{i}-of-00002.bin" for i, f in ((1, "weight"), (2, "view"))}
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": mapping}))
    checkpoint = Checkpoint.from_folder(tmp_path)
    assert same(checkpoint.read("view"), tensors["view"])
    index.write_text(json.dumps({"weight_map": mapping | {"lost": mapping["view"]}}))
    with pytest.raises(AtlasError, match=r"tensor lost in .*, which is in no file"):
        Checkpoint.from_folder(tmp_path)
    torch.save({"weight": tensors["weight"]}, tmp_path / "pytorch_model-00002-of-00002.bin")
    index.unlink()
    with pytest.raises(AtlasError, match="tensor weight is in two files"):
        Checkpoint.from_folder(tmp_path)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("opened",)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"w": Malicious()}, "mkdir"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"w": torch.zeros(2), "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
    ],
)
def test_code_is_refused_and_the_safe_way_named(tmp_path, monkeypatch, content, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AtlasError, match="wants to run code") as caught:
        opened(tmp_path, content)
    assert what in caught.value.what and "safetensors" in caught.value.remedy
    assert not (tmp_path / "opened").exists()


def test_files_that_cannot_be_read(tmp_path, tensors):
    path = tmp_path / "model.pt"
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    with pytest.raises(AtlasError, match=r"from before version 1\.6") as caught:
        Checkpoint.from_folder(tmp_path)
    assert "weights_only=True" in caught.value.remedy
    torch.save(tensors, path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(AtlasError, match="truncated or damaged"):
        Checkpoint.from_folder(tmp_path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(AtlasError, match="not a PyTorch file"):
        Checkpoint.from_folder(tmp_path)


def test_what_has_no_plain_values_is_listed_with_the_reason(tmp_path, tensors):
    checkpoint = opened(tmp_path, {"sparse": tensors["weight"].to_sparse(), "weight": tensors["weight"]})
    assert "sparse" in checkpoint.entries["sparse"].note
    with pytest.raises(AtlasError, match="cannot be read"):
        checkpoint.read("sparse")
    assert same(checkpoint.read("weight"), tensors["weight"])


def test_conjugates_and_negatives_keep_their_sign(tmp_path):
    values = torch.randn(3, 4, dtype=torch.complex64)
    tensors = {"plain": values, "conjugate": values.conj(), "turned": values.conj().mT}
    tensors["negative"] = torch.randn(3, 4, dtype=torch.complex64).conj().imag
    checkpoint = opened(tmp_path, tensors)
    for name, expected in tensors.items():
        assert torch.equal(checkpoint.read(name), expected), name
        assert torch.equal(checkpoint.read(name, slice(1, 2)), expected[1:2]), name


def test_two_views_of_one_storage_are_not_taken_for_the_same_data(tmp_path):
    square, values = torch.randn(4, 4), torch.randn(4, dtype=torch.complex64)
    checkpoint = opened(tmp_path, {"W": square, "W_T": square.t(), "c": values, "c_conj": values.conj()})
    assert not same_values(checkpoint, "W", "W_T") and not same_values(checkpoint, "c", "c_conj")


def test_tensors_without_plain_values_are_listed_with_the_reason(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_tensor(torch.randn(3, 3), 0.1, 0, torch.qint8)
        nested = torch.nested.nested_tensor([torch.randn(2), torch.randn(3)])
        tensors = {
            "meta": torch.empty(4, 4, device="meta"),
            "sparse": torch.eye(3).to_sparse(),
            "csr": torch.eye(3).to_sparse_csr(),
            "quantized": quantized,
            "nested": nested,
            "wide": torch.randn(2, dtype=torch.complex128),
        }
        checkpoint = opened(tmp_path, tensors | {"w": torch.ones(2)})
    notes = {name: entry.note for name, entry in checkpoint.entries.items()}
    assert notes.pop("w") == "" and notes.pop("meta") == "holds no data: it was saved from the meta device"
    for word, note in zip(
        ("sparse_coo", "sparse_csr", "quantized", "nested", "complex128"), notes.values(), strict=True
    ):
        assert word in note and "not read" in note
    with pytest.raises(AtlasError, match="holds no data"):
        checkpoint.read("meta")


@pytest.mark.slow
def test_a_huge_unused_buffer_is_never_read(tmp_path, growth_of):
    # Stands beside the wanted tensors in the same file: 100 MB.
    content = {
        "model": {"w": torch.ones(64, 64), "part": torch.ones(25_000_000)[:10]},
        "unused": torch.ones(25_000_000),
    }
    torch.save(content, tmp_path / "model.pt")
    code = """
import resource, sys, torch
from weight_atlas.checkpoint.checkpoint import Checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
checkpoint = Checkpoint.from_folder(sys.argv[1], key="model")
assert all(checkpoint.read(name).sum() == checkpoint.read(name).numel() for name in checkpoint.entries)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert growth_of(code, tmp_path) < 40e6
