"""The header of a safetensors file: every kind of damage."""

import json
from pathlib import Path

import pytest

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.safetensors_file import safetensors_header
from weight_atlas.errors import AtlasError


def raw_file(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file made by hand, from its published layout."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def tensor(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "data", "length", "message"),
    [
        ({"a": tensor(0, 16, [4])}, b"x" * 12, None, "truncated: tensor a ends"),
        ({"a": tensor(0, 16, [4])}, b"x" * 20, None, "4 bytes after the last tensor"),
        ({"a": tensor(0, 8, [2]), "b": tensor(4, 12, [2])}, b"x" * 12, None, "tensor b overlaps"),
        ({"a": tensor(0, 8, [2]), "b": tensor(12, 20, [2])}, b"x" * 20, None, "tensor b leaves a hole"),
        ({"a": tensor(4, 12, [2])}, b"x" * 12, None, "tensor a leaves a hole"),
        ({"a": tensor(0, 400, [100])}, b"x" * 8, None, "truncated: tensor a ends"),
        ({"a": tensor(0, 16, [3])}, b"x" * 16, None, "needs 12 bytes"),
        ({"a": tensor(16, 0, [4])}, b"x" * 16, None, "impossible shape or offsets"),
        ({"a": tensor(0, 16, [-4])}, b"x" * 16, None, "impossible shape or offsets"),
        ({"a": tensor(0, 16, [4.0])}, b"x" * 16, None, "impossible shape or offsets"),
        ({"a": {"dtype": "F32", "shape": [4]}}, b"x" * 16, None, "lacks a dtype"),
        ({"a": 5}, b"", None, "lacks a dtype"),
        ({"a": tensor(0, 16, [4], "F99")}, b"x" * 16, None, "type that is not known: F99"),
        (b'{"a": {}, "a": {}}', b"", None, "a is there twice"),
        (b"\xff\xfe garbage", b"", None, "not a safetensors header"),
        (b"[1]", b"", None, "no JSON object"),
        ({"a": tensor(0, 16, [4], ["F32"])}, b"x" * 16, None, r"type that is not known: \['F32'\]"),
        ({"a": tensor(0, 16, [4], {"F": 1})}, b"x" * 16, None, "type that is not known"),
        ({"a": tensor(0, 16, [4], 5)}, b"x" * 16, None, "type that is not known: 5"),
        ({"a": tensor(0, 0, [1 << 62, 1 << 62, 0])}, b"", None, "impossible shape"),
        ({"a": tensor(0, 0, [0, 1 << 62])}, b"", None, "impossible shape"),
        ({"a": tensor(0, 16, [1 << 40] * 200_000)}, b"x" * 16, None, "impossible shape"),
        ({"a": tensor(0, 16, {"4": 4})}, b"x" * 16, None, "impossible shape"),
        ({"a": tensor(0, 16, 4)}, b"x" * 16, None, "lacks a dtype, a shape or offsets"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", None, "not a safetensors header"),
        (b'{"a": ' + b"9" * 5000 + b"}", b"", None, "not a safetensors header"),
        ({"a\ud800": tensor(0, 16, [4])}, b"x" * 16, None, r"1 tensor name\(s\) with characters .* 'a\\ud800'"),
        ({"a\x1b[2J": tensor(0, 16, [4])}, b"x" * 16, None, r"tensor name\(s\) with characters"),
        (b"{}", b"", 1 << 40, "claims a header of"),
        (b"{}", b"", 100, "truncated: the header needs 108 bytes"),
    ],
)
def test_damaged_file(tmp_path, header, data, length, message):
    path = raw_file(tmp_path / "model.safetensors", header, data, length)
    with pytest.raises(AtlasError, match=message) as caught:
        Checkpoint.from_folder(tmp_path)
    assert caught.value.where in (path, tmp_path) and caught.value.remedy


@pytest.mark.timeout(600)  # 20 minutes where each is looked for among all, less than a second where none is
def test_a_name_that_comes_twice_is_found_at_once_among_many(tmp_path):
    names = [f'"{number}": {{}}' for number in range(200_000)]
    raw_file(tmp_path / "model.safetensors", f"{{{', '.join([*names, names[-1]])}}}".encode())
    with pytest.raises(AtlasError, match="199999 is there twice"):
        Checkpoint.from_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"1234567"])
def test_shorter_than_its_own_length_field(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(AtlasError, match="truncated"):
        safetensors_header(tmp_path / "model.safetensors")


def test_a_header_alone_is_a_file_without_tensors(tmp_path):
    raw_file(tmp_path / "model.safetensors", {"__metadata__": {"format": "pt"}})
    assert Checkpoint.from_folder(tmp_path).entries == {}
