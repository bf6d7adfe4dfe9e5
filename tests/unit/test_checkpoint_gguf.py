"""GGUF files, against the gguf package's own writer and a plain reading of the format's definition."""

import struct

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError


def write(path, tensors: dict, **more) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_feed_forward_length(96)
    writer.add_context_length(2048)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list(["a", "b"] * 3000)
    for name, (values, kind) in tensors.items():
        stored = values if kind == Type.F32 else gguf.quants.quantize(values, kind)
        writer.add_tensor(name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def values():
    return np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)


def test_tensors_of_several_types(tmp_path, values):
    kinds = {"f32": Type.F32, "f16": Type.F16, "bf16": Type.BF16, "q8": Type.Q8_0, "q4": Type.Q4_0, "q5": Type.Q5_1}
    stack = np.stack([values, 2 * values])
    tensors = {name: (values, kind) for name, kind in kinds.items()} | {"experts": (stack, Type.Q8_0)}
    write(tmp_path / "model.gguf", tensors)
    checkpoint = Checkpoint.from_folder(tmp_path)
    for name, (given, kind) in tensors.items():
        stored = gguf.quants.quantize(given, kind) if kind != Type.F32 else given
        expected = torch.from_numpy(gguf.quants.dequantize(np.asarray(stored).view(np.uint8), kind))
        if kind in (Type.F32, Type.F16):
            expected = expected.view(given.shape)
        read = checkpoint.read(name)
        assert torch.equal(read.float(), expected), name
        assert torch.equal(checkpoint.read(name, slice(1, 2)), read[1:2])
        entry = checkpoint.entries[name]
        assert (entry.dtype, entry.shape, entry.bytes) == (kind.name, given.shape, np.asarray(stored).nbytes)


def test_q8_0_by_its_definition(tmp_path, values):
    write(tmp_path / "model.gguf", {"x": (values, Type.Q8_0)})
    checkpoint = Checkpoint.from_folder(tmp_path)
    entry = checkpoint.entries["x"]
    raw = (tmp_path / "model.gguf").read_bytes()[entry.offset :][: entry.bytes]
    expected = []
    for block in range(0, len(raw), 34):  # a half-precision scale, then 32 signed bytes
        scale, *codes = struct.unpack("<e32b", raw[block : block + 34])
        expected += [scale * code for code in codes]
    assert np.array_equal(checkpoint.read("x").double().numpy().ravel(), np.array(expected))


def test_long_tensors_are_unfolded_in_pieces(tmp_path, monkeypatch, values):
    monkeypatch.setattr("weight_atlas.checkpoint.gguf_file._ELEMENTS_AT_ONCE", 128)
    write(tmp_path / "model.gguf", {"x": (values, Type.Q8_0)})
    whole = gguf.quants.dequantize(gguf.quants.quantize(values, Type.Q8_0), Type.Q8_0)
    assert np.array_equal(Checkpoint.from_folder(tmp_path).read("x", slice(1, 6)).numpy(), whole[1:6])


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q6_K])
def test_packed_vectors_and_packed_tensors_without_elements(tmp_path, kind):
    """The package unfolds lines of whole blocks; rows of a vector are its elements."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    stored = np.random.default_rng(0).integers(0, 60, 3 * size, dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("vector", stored, raw_dtype=kind)
    writer.add_tensor("empty", stored[:0].reshape(0, size), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = Checkpoint.from_folder(tmp_path)
    expected = torch.from_numpy(gguf.quants.dequantize(stored, kind))
    assert checkpoint.entries["vector"].shape == expected.shape == (3 * block,)
    assert torch.equal(checkpoint.read("vector"), expected)
    assert torch.equal(checkpoint.read("vector", slice(5, 2 * block + 1)), expected[5 : 2 * block + 1])
    assert checkpoint.read("empty").shape == (0, block)


def test_metadata_under_the_usual_names(tmp_path, values):
    write(tmp_path / "model.gguf", {"token_embd.weight": (values, Type.F32)})
    config = Checkpoint.from_folder(tmp_path).config
    assert config["architectures"] == ["GGUF"] and config["model_type"] == "llama"
    assert (config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]) == (2, 64, 96)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
    assert (config["vocab_size"], config["tie_word_embeddings"]) == (6, True)
    assert not any("tokenizer" in key for key in config["gguf"])


def test_parts(tmp_path, values):
    write(tmp_path / "m-00001-of-00002.gguf", {"x": (values, Type.F32)})
    write(tmp_path / "m-00002-of-00002.gguf", {"y": (values, Type.F32)})
    assert set(Checkpoint.from_folder(tmp_path).entries) == {"x", "y"}
    write(tmp_path / "m-00002-of-00002.gguf", {"x": (values, Type.F32)})
    with pytest.raises(AtlasError, match="tensor x is in two files"):
        Checkpoint.from_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no GGUF file at all, but some text"])
def test_not_a_gguf_file(tmp_path, content):
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(AtlasError, match="not a readable GGUF file") as caught:
        Checkpoint.from_folder(tmp_path)
    assert caught.value.remedy


def test_truncated(tmp_path, values):
    path = tmp_path / "model.gguf"
    write(path, {"x": (values, Type.F32)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AtlasError, match="truncated"):
        Checkpoint.from_folder(tmp_path)


def header(*, tensors: int = 0, pairs: tuple[bytes, ...] = (), after: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(pairs)) + b"".join(pairs) + after


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def pair(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def described(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ARRAY, STRING, UINT8, UINT32 = 9, 8, 0, 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(pairs=(pair(b"x", ARRAY, struct.pack("<IQ", UINT8, 1 << 62)),)), "claims 4611686018427387904 elements"),
        (header(pairs=(pair(b"x", ARRAY, struct.pack("<IQ", STRING, 1 << 30)),)), "claims 1073741824 elements"),
        (header(pairs=(pair(b"x", ARRAY, struct.pack("<IQ", UINT32, 1000)),)), "reach beyond the end"),
        (header(pairs=(pair(b"x", STRING, struct.pack("<Q", 1 << 62)),)), "reach beyond the end"),
        (header(pairs=(pair(b"x", ARRAY, struct.pack("<IQ", ARRAY, 1) * 5000),)), "not a readable GGUF file"),
        (header(tensors=1 << 62), "reach beyond the end"),
        (header(tensors=1, after=text(b"x") + struct.pack("<I", 1 << 31)), "reach beyond the end"),
        (header(tensors=1, after=described(b"x", (1,) * 70) + bytes(64)), "claims 70 dimensions"),
        (header(tensors=1, after=described(b"x", (1 << 32, 1 << 32)) + bytes(64)), "not a readable GGUF file"),
        (header(tensors=1, after=described(b"x", (), kind=8) + bytes(64)), "not a readable GGUF file"),
        (header(tensors=1, after=described(b"\xff", (1,)) + bytes(64)), "not a readable GGUF file"),
        (header(pairs=(pair(b"general.name", STRING, text(b"\xff\xfe")),)), "metadata general.name is not readable"),
        (
            header(pairs=(pair(b"general.architecture", ARRAY, struct.pack("<IQI", UINT32, 1, 7)),)),
            r"general.architecture is no text: \[7\]",
        ),
        (header(pairs=(pair(b"general.architecture", UINT32, struct.pack("<I", 7)),)), "is no text: 7"),
    ],
)
def test_a_header_that_claims_the_impossible(tmp_path, content, message):
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(AtlasError, match=message) as caught:
        Checkpoint.from_folder(tmp_path)
    assert caught.value.where == tmp_path / "model.gguf" and caught.value.remedy


def test_a_tensor_without_dimensions_is_a_number(tmp_path):
    data = described(b"token_embd.weight", ())
    content = header(tensors=1, after=data)
    content += bytes(-len(content) % 32) + struct.pack("<f", 2.5)
    (tmp_path / "model.gguf").write_bytes(content)
    checkpoint = Checkpoint.from_folder(tmp_path)
    assert checkpoint.entries["token_embd.weight"].shape == () and checkpoint.read("token_embd.weight").item() == 2.5
