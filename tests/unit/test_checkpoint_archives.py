"""Archives of PyTorch: packed by other programs, damaged, or of records that are at odds with their pickle."""

import zipfile

import pytest
import torch
from test_checkpoint_pickles import opened, same

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError

TYPES = (
    "bfloat16", "float16", "float32", "float64", "int8", "int64", "uint16", "bool", "complex64", "float8_e4m3fn",
    "float8_e5m2",
)  # fmt: skip


def of_every_type() -> dict[str, torch.Tensor]:
    values = torch.randn(7, 5) * 3
    found = {name: values.to(getattr(torch, name)) for name in TYPES}
    shared = torch.randn(30)
    return found | {"tied": found["float32"], "view": shared[3:23].view(4, 5), "other_view": shared[10:20]}


class Unseekable:
    """A pipe: zipfile then writes sizes behind the data."""

    def __init__(self, file):
        self.write, self.flush = file.write, file.flush


def packed_again(path, *, order=1, root=None, piped=False, zip64=False, drop=()) -> None:
    """Write all members of an archive anew, stored as they are."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    kept = [name for name in list(members)[::order] if not name.endswith(drop)]
    with path.open("wb") as file, zipfile.ZipFile(Unseekable(file) if piped else file, "w") as archive:
        for name in kept:
            renamed = "/".join([root, *name.split("/")[1:]]) if root else name
            with archive.open(zipfile.ZipInfo(renamed), "w", force_zip64=zip64) as member:
                member.write(members[name])


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"order": -1},
        {"root": "some other root"},
        {"piped": True},
        {"zip64": True},
        {"drop": ("/.format_version", "/.storage_alignment", "/byteorder")},
        {"piped": True, "zip64": True, "order": -1, "root": "r"},
    ],
    ids=str,
)
def test_an_archive_packed_again_gives_the_values_that_torch_load_gives(tmp_path, how):
    path = tmp_path / "model.pt"
    torch.save(of_every_type(), path)
    packed_again(path, **how)
    expected = torch.load(path, weights_only=True)
    checkpoint = Checkpoint.from_folder(tmp_path)
    assert list(checkpoint.entries) == list(expected)
    for name, tensor in expected.items():
        assert same(checkpoint.read(name), tensor), name
        assert same(checkpoint.read(name, slice(1, 3)), tensor[1:3]), name
    assert checkpoint.entries["tied"].offset == checkpoint.entries["float32"].offset >= 0


def storage(count: int, key: str = "0", numbers: bytes = b"\x00" * 4) -> bytes:
    """Opcodes for a float32 storage of an archive."""
    return (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00" + key.encode() + b"X\x03\x00\x00\x00cpuJ"
        + count.to_bytes(4, "little") + b"tQ"
    )  # fmt: skip


def tensor(offset: int, size: int, stride: int, count: int = 4) -> bytes:
    """Opcodes for {"w": a float32 vector of a storage}."""
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(count)
    numbers = [b"J" + number.to_bytes(4, "little", signed=True) for number in (offset, size, stride)]
    made = rebuild + numbers[0] + numbers[1] + b"\x85" + numbers[2] + b"\x85" + b"\x89}tR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + made + b"s."


def archive(path, pickle: bytes, records: dict[str, bytes] | None = None, **more: bytes) -> None:
    records = {"data.pkl": pickle, "byteorder": b"little", "data/0": b"\x00" * 16, "version": b"3\n"} | (records or {})
    with zipfile.ZipFile(path, "w") as file:
        for name, content in records.items():
            file.writestr(f"archive/{name}", content)


def test_the_smallest_archive_is_read(tmp_path):
    archive(tmp_path / "model.pt", tensor(1, 3, 1), {"data/0": torch.arange(4.0).numpy().tobytes()})
    assert Checkpoint.from_folder(tmp_path).read("w").tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("pickle", "record", "message"),
    [
        (tensor(0, 5, 1), 16, "reaches beyond its storage"),
        (tensor(2, 3, 1), 16, "reaches beyond its storage"),
        (tensor(0, 3, 2), 16, "reaches beyond its storage"),
        (tensor(0, 2, 1 << 30), 16, "reaches beyond its storage"),
        (tensor(-1, 2, 1), 16, "damaged"),
        (tensor(3, 2, -1), 16, "reaches beyond its storage"),
        (tensor(0, 4, 1), 12, "storage 0 should have 16 bytes, its record has 12"),
        (tensor(0, 4, 1), 400, "storage 0 should have 16 bytes, its record has 400"),
        (tensor(0, 4, 1, count=8), 16, "storage 0 should have 32 bytes, its record has 16"),
    ],
)
def test_tensors_and_storages_beyond_their_data_are_refused(tmp_path, pickle, record, message):
    path = tmp_path / "model.pt"
    archive(path, pickle, {"data/0": b"\x01" * record})
    with pytest.raises(AtlasError, match=message) as caught:
        Checkpoint.from_folder(tmp_path)
    assert caught.value.where == path and caught.value.remedy


@pytest.mark.parametrize(
    "pickle",
    [
        b"",
        b"\x80\x02}",
        b"\x80\x02.",
        b"\x80\x02\xff.",
        b"\x80\x02h\x07.",
        b"\x80\x02}X\xff\xff\x00\x00w.",
        b"\x80\x02]}s.",
        b"\x80\x02K\x01Q.",
        tensor(0, 4, 1).replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x009"),
        tensor(0, 4, 1).replace(b"FloatStorage", b"Tensor"),
    ],
)
def test_a_damaged_pickle_is_not_said_to_want_code(tmp_path, pickle):
    archive(tmp_path / "model.pt", pickle)
    with pytest.raises(AtlasError, match="damaged") as caught:
        Checkpoint.from_folder(tmp_path)
    assert "code" not in str(caught.value)


def test_a_flipped_bit_in_the_pickle_is_found_by_its_checksum(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(4)}, path)
    path.write_bytes(path.read_bytes().replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v6", 1))
    with pytest.raises(AtlasError, match="damaged"):
        Checkpoint.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "holds no data.pkl"),
        ({"other/file": b""}, "holds no data.pkl"),
        ({"a/data.pkl": b"\x80\x02}.", "a/version": b"3\n", "a/constants.pkl": b"."}, "TorchScript"),
        ({"a/data.pkl": b"\x80\x02}.", "a/version": b"3\n", "a/byteorder": b"big"}, "big-endian"),
        ({"a/data.pkl": b"\x80\x02}.", "a/version": b"3\n", "a/byteorder": b"odd"}, "no tensors in this file"),
    ],
)
def test_archives_of_other_kinds(tmp_path, members, message):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    with pytest.raises(AtlasError, match=message):
        Checkpoint.from_folder(tmp_path)


def test_members_that_unfold_to_gigabytes_are_never_unfolded(tmp_path, growth_of):
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", b"\x80\x02}.")
        with file.open("a/byteorder", "w") as member:
            for _ in range(64):
                member.write(bytes(1 << 20))
    code = """
import resource, sys, torch, weight_atlas.checkpoint.archive
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    Checkpoint.from_folder(sys.argv[1])
except AtlasError as error:
    assert "a compressed archive" in str(error), error
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert growth_of(code, tmp_path) < 32e6


def test_dictionaries_within_themselves_end(tmp_path):
    content = {"step": 1}
    content["self"] = content
    with pytest.raises(AtlasError, match="no tensors in this file"):
        opened(tmp_path, content)
    content["state"] = {"w": torch.ones(2)}
    assert list(opened(tmp_path, content).entries) == ["w"]
    shared: dict = {"w": torch.ones(2)}
    for _ in range(40):  # 2^40 ways lead to it
        shared = {"a": shared, "b": shared}
    with pytest.raises(AtlasError, match="no tensors in this file"):
        opened(tmp_path, shared)


def test_tuples_that_double_again_and_again_are_refused(tmp_path):
    # ((1, 1), (1, 1)) ... as a key: hashing it would take 2^200 steps.
    doubled = b"".join(b"q\x00h\x00\x86" for _ in range(200))
    archive(tmp_path / "model.pt", b"\x80\x02}K\x01" + doubled + b"K\x01s.")
    with pytest.raises(AtlasError, match="a tuple of more than"):
        Checkpoint.from_folder(tmp_path)
