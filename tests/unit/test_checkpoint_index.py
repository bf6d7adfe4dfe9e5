"""The safetensors index of a folder, what is at odds with it, manifests, and reading of tensors and rows."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from weight_atlas.artifacts import write_json
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.settings.models import CheckpointSpec

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8,
    torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64, torch.bool,
]  # fmt: skip


@pytest.fixture
def sharded(tmp_path):
    """Three tensors in two shards with an index, one of them without elements."""
    torch.manual_seed(0)
    tensors = {"a": torch.randn(4, 6).bfloat16(), "b": torch.randn(3, 5, 2), "empty": torch.zeros(0, 4)}
    save_file({name: tensors[name] for name in ("a", "empty")}, tmp_path / "one.safetensors")
    save_file({"b": tensors["b"]}, tmp_path / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "empty": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path, tensors, index


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_is_read_bit_for_bit(tmp_path, dtype):
    torch.manual_seed(1)
    values = torch.randint(0, 2, (7, 5)) if dtype == torch.bool else torch.randn(7, 5) * 9
    tensors = {"x": values.to(dtype), "scalar": values[0, 0].clone().to(dtype), "none": values[:0].to(dtype)}
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.from_folder(tmp_path)
    for name, expected in tensors.items():
        read = checkpoint.read(name)
        assert (read.dtype, read.shape) == (dtype, expected.shape)
        assert torch.equal(read.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8))
        assert checkpoint.entries[name].bytes == expected.nbytes


@pytest.mark.parametrize("rows", [slice(0, 2), slice(2, None), slice(-1, None), slice(3, 3), slice(3, 1), slice(0, 99)])
def test_rows_are_those_of_the_whole(sharded, rows):
    folder, tensors, _ = sharded
    checkpoint = Checkpoint.from_folder(folder)
    for name, expected in tensors.items():
        assert torch.equal(checkpoint.read(name, rows), expected[rows])
    with pytest.raises(ValueError, match="step of 1"):
        checkpoint.read("a", slice(0, 4, 2))


def test_entries(sharded):
    folder, _, _ = sharded
    entries = Checkpoint.from_folder(folder).entries
    assert {name: (entry.dtype, entry.shape, entry.shard, entry.bytes) for name, entry in entries.items()} == {
        "a": ("BF16", (4, 6), "one.safetensors", 48),
        "empty": ("F32", (0, 4), "one.safetensors", 0),
        "b": ("F32", (3, 5, 2), "two.safetensors", 120),
    }


def test_shards_without_an_index(sharded):
    folder, tensors, _ = sharded
    (folder / "model.safetensors.index.json").unlink()
    checkpoint = Checkpoint.from_folder(folder)
    assert all(torch.equal(checkpoint.read(name), expected) for name, expected in tensors.items())


CONFIGURATIONS = {
    "architectures": ('{"architectures": 5}', '{"architectures": [["x"]]}', '{"architectures": "LlamaForCausalLM"}'),
    "model_type": ('{"model_type": ["llama"]}', '{"model_type": {}}', '{"model_type": 5}'),
    "text_config": ('{"text_config": "x"}', '{"text_config": [1]}'),
    "quantization_config": ('{"quantization_config": "gptq"}',),
    "not valid JSON": (
        "[" * 100_000,
        '{"a": ' * 100_000 + "1" + "}" * 100_000,
        f'{{"vocab_size": {"9" * 5000}}}',
        "{",
        '"\\ud800',
        "\x00",
    ),
    "no JSON object": ("5", "[]", "null"),
}


@pytest.mark.parametrize(
    ("said", "content"),
    [(said, text) for said, texts in CONFIGURATIONS.items() for text in texts],
    ids=lambda x: x[:40],
)
def test_a_configuration_of_another_structure(tmp_path, said, content):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(AtlasError, match=said) as caught:
        Checkpoint.from_folder(tmp_path)
    assert caught.value.where == tmp_path / "config.json" and caught.value.remedy


def test_null_stands_for_what_a_configuration_leaves_out(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    content = '{"architectures": null, "model_type": null, "text_config": null, "quantization_config": null}'
    (tmp_path / "config.json").write_text(content)
    assert set(Checkpoint.from_folder(tmp_path).entries) == {"a"}


@pytest.mark.parametrize("shard", ["x" * 5000, "a\x00b", "x" * 300 + ".safetensors"])
def test_an_index_that_names_what_cannot_be_a_file(sharded, shard):
    folder, _, index = sharded
    _rewrite(folder, index, c=shard)
    with pytest.raises(AtlasError, match="missing file") as caught:
        Checkpoint.from_folder(folder)
    assert len(str(caught.value)) < 3000


def test_a_file_name_that_is_not_utf_8(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").rename(tmp_path / os.fsdecode(b"\xff.safetensors"))
    for open_it in (
        lambda: Checkpoint.from_folder(tmp_path),
        lambda: make_manifest(CheckpointSpec(source=str(tmp_path))),
    ):
        with pytest.raises(AtlasError, match="a file name is not UTF-8") as caught:
            open_it()
        assert r"\udcff.safetensors" in str(caught.value)


def _rewrite(folder: Path, index: dict, **changes: str | None) -> None:
    mapping = {name: shard for name, shard in {**index["weight_map"], **changes}.items() if shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": mapping}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c": "three.safetensors"}, "missing file.*three.safetensors"),
        ({"c": "two.safetensors"}, "tensor c in two.safetensors, which is in no file"),
        ({"a": "two.safetensors"}, "tensor a in two.safetensors, which is in one.safetensors"),
    ],
)
def test_an_index_at_odds_with_its_shards(sharded, changes, message):
    folder, _, index = sharded
    _rewrite(folder, index, **changes)
    with pytest.raises(AtlasError, match=message) as caught:
        Checkpoint.from_folder(folder)
    assert caught.value.where == folder / "model.safetensors.index.json" and caught.value.remedy


def test_one_name_in_two_shards(sharded):
    folder, tensors, _ = sharded
    save_file({"b": tensors["b"], "a": tensors["a"]}, folder / "two.safetensors")
    with pytest.raises(AtlasError, match=r"tensor a is in two files: one.safetensors and two.safetensors"):
        Checkpoint.from_folder(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', "\x00"])
def test_no_index(sharded, content):
    folder, _, _ = sharded
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(AtlasError, match="not a shard index"):
        Checkpoint.from_folder(folder)


def test_unknown_tensor_and_missing_folder(sharded):
    folder, _, _ = sharded
    with pytest.raises(AtlasError, match="there is no tensor zz"):
        Checkpoint.from_folder(folder).read("zz")
    with pytest.raises(AtlasError, match="the folder does not exist"):
        Checkpoint.from_folder(folder / "nowhere")


def test_a_folder_is_listed_once(sharded, monkeypatch):
    """Its index is read twice: for the names of the shards, and when each tensor was looked for in its shard."""
    listed, read = [], []
    iterdir, read_text = Path.iterdir, Path.read_text
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path) or iterdir(path))
    monkeypatch.setattr(Path, "read_text", lambda path, **kwargs: read.append(path.name) or read_text(path, **kwargs))
    manifest = make_manifest(CheckpointSpec(source=str(sharded[0])))
    assert [file["name"] for file in manifest["files"]] == [
        "model.safetensors.index.json", "one.safetensors", "two.safetensors",
    ]  # fmt: skip
    assert listed == [sharded[0]]
    assert read.count("model.safetensors.index.json") == 2


def test_manifest_and_what_changes_after_it(sharded, tmp_path_factory):
    folder, tensors, _ = sharded
    (folder / "config.json").write_text('{"model_type": "llama"}')
    path = tmp_path_factory.mktemp("results") / "model.json"
    write_json(path, make_manifest(CheckpointSpec(source=str(folder), family="llama"), threads=3))
    first = path.read_bytes()
    write_json(path, make_manifest(CheckpointSpec(source=str(folder), family="llama")))
    assert path.read_bytes() == first
    checkpoint = open_checkpoint(path)
    assert (checkpoint.config, checkpoint.family, checkpoint.folder) == ({"model_type": "llama"}, "llama", folder)
    assert torch.equal(checkpoint.read("a"), tensors["a"])
    expected = subprocess.run(["sha256sum", folder / "one.safetensors"], capture_output=True, text=True, check=True)
    digests = {file["name"]: file["sha256"] for file in json.loads(first)["files"]}
    assert digests["one.safetensors"] == expected.stdout.split()[0]
    # A file that came later is no part of what the manifest describes.
    save_file({"late": tensors["a"]}, folder / "model.safetensors")
    assert set(open_checkpoint(path).entries) == set(tensors)
    (folder / "config.json").write_text('{"model_type": "other"}')
    (folder / "config.json").write_text("{}")
    with pytest.raises(AtlasError, match="the file has changed: 2 bytes, was 23") as caught:
        open_checkpoint(path)
    assert "fetch_checkpoint" in caught.value.remedy
    (folder / "config.json").unlink()
    with pytest.raises(AtlasError, match="is gone"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "the folder does not exist"),
        (lambda folder: folder, "no weights here"),
        (lambda folder: folder / "model.pt", "there is no file model.pt"),
        (lambda folder: folder / "weights.h5", "not a checkpoint file"),
    ],
)
def test_nothing_to_make_a_manifest_of(tmp_path, make, message):
    (tmp_path / "weights.h5").touch()
    with pytest.raises(AtlasError, match=message) as caught:
        make_manifest(CheckpointSpec(source=str(make(tmp_path))))
    assert caught.value.remedy


def test_an_index_of_another_format_is_no_part_of_it(sharded):
    folder, _, _ = sharded
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "gone.bin"}}')
    names = [file["name"] for file in make_manifest(CheckpointSpec(source=str(folder)))["files"]]
    assert names == ["model.safetensors.index.json", "one.safetensors", "two.safetensors"]


def test_weights_in_a_folder_inside_are_pointed_out(tmp_path):
    (tmp_path / "step-1").mkdir()
    save_file({"a": torch.zeros(2)}, tmp_path / "step-1/model.safetensors")
    with pytest.raises(AtlasError, match=r"did you mean .*step-1"):
        make_manifest(CheckpointSpec(source=str(tmp_path)))


def test_a_revision_is_for_the_hub(sharded):
    with pytest.raises(AtlasError, match="`revision` is for models on the hub"):
        make_manifest(CheckpointSpec(source=str(sharded[0]), revision="main"))


def test_a_manifest_that_is_none(tmp_path):
    (tmp_path / "model.json").write_text('{"other": 1}')
    with pytest.raises(AtlasError, match="not a checkpoint manifest"):
        open_checkpoint(tmp_path / "model.json")


def test_memory_is_bounded_by_the_tensor(tmp_path, growth_of):
    # 36 MB each, 180 MB in all. Below 32 MiB glibc takes memory from its heap, whose holes count as the process's.
    tensors = {f"t{i}": torch.ones(3_000, 3_000) for i in range(5)}
    save_file(tensors, tmp_path / "model.safetensors")
    code = """
import resource, sys, torch
from weight_atlas.checkpoint.checkpoint import Checkpoint
checkpoint = Checkpoint.from_folder(sys.argv[1])
checkpoint.read("t0", slice(0, 1)).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in checkpoint.entries:
    assert checkpoint.read(name)[-1, -1] == 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert growth_of(code, tmp_path) < 80e6  # two tensors and room, not 180 MB


def test_an_adapter_comes_with_its_own_configuration(tmp_path):
    adapter = {"q_proj.lora_A.weight": torch.randn(2, 8), "q_proj.lora_B.weight": torch.randn(8, 2)}
    save_file(adapter, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    checkpoint = Checkpoint.from_folder(tmp_path)
    assert checkpoint.config == {"peft_type": "LORA", "r": 2}
    assert {name: entry.shape for name, entry in checkpoint.entries.items()} == {
        "q_proj.lora_A.weight": (2, 8),
        "q_proj.lora_B.weight": (8, 2),
    }
    assert all(torch.equal(checkpoint.read(name), values) for name, values in adapter.items())


def test_a_key_is_for_pytorch_files(sharded):
    with pytest.raises(AtlasError, match="`key` is for PyTorch files"):
        Checkpoint.from_folder(sharded[0], key="model")
