"""What source strings mean, and which files of a folder belong to a checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from weight_atlas.checkpoint.listing import list_files
from weight_atlas.checkpoint.local_files import local_files, local_state
from weight_atlas.checkpoint.source import HubSource, LocalSource, bundled, parse_source
from weight_atlas.errors import AtlasError


@pytest.mark.parametrize(
    ("text", "kind", "place", "file"),
    [
        ("hf://allenai/OLMo-1B-0724-hf", HubSource, "allenai/OLMo-1B-0724-hf", None),
        ("hf://org/name/model-Q4_K_M.gguf", HubSource, "org/name", "model-Q4_K_M.gguf"),
        ("models/llama", LocalSource, Path("models/llama"), None),
        ("models/v1.5", LocalSource, Path("models/v1.5"), None),
        ("runs/step_1000.pt", LocalSource, Path("runs"), "step_1000.pt"),
        ("model.safetensors", LocalSource, Path(), "model.safetensors"),
        ("~/models/x", LocalSource, Path.home() / "models/x", None),
    ],
)
def test_meaning(text, kind, place, file):
    assert parse_source(text) == kind(text, place, file)


def test_bundled_lies_in_the_repository():
    assert parse_source("bundled:demo").folder == bundled("demo")
    assert bundled("demo") == Path(__file__).parents[2] / "src/weight_atlas/data/demo/model"


@pytest.mark.parametrize(
    "text",
    ["", "  ", "bundled:", "bundled:../x", "hf:org/name", "hf://name", "hf://org/../x", "hf://org/name/x/y.gguf",
     "hf://org/name/README.md", "hf://org/na me", "s3://bucket/x", "https://huggingface.co/org/name"],
)  # fmt: skip
def test_no_source(text):
    with pytest.raises(AtlasError) as caught:
        parse_source(text)
    assert caught.value.remedy


def test_a_folder_may_be_named_like_a_file(tmp_path):
    (tmp_path / "model.bin").mkdir()
    assert parse_source(str(tmp_path / "model.bin")).file is None


def _touch(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")


def test_local_files_are_those_that_matter(tmp_path):
    _touch(tmp_path, "config.json", "tokenizer.json", "model.safetensors", "optimizer.pt", "README.md", "notes.txt")
    assert [Path(path).name for path in local_files(str(tmp_path))] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert local_files(str(tmp_path / "model.safetensors")) == local_files(str(tmp_path))
    assert local_files("hf://org/name") == []
    assert local_files(str(tmp_path / "missing")) == []


def test_local_files_of_one_part_are_those_of_its_set(tmp_path):
    _touch(tmp_path, "m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "n-00001-of-00002.gguf")
    names = [Path(path).name for path in local_files(str(tmp_path / "m-00002-of-00002.gguf"))]
    assert names == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


def test_state_shows_a_file_replaced_by_an_older_one(tmp_path):
    _touch(tmp_path, "model.safetensors")
    before = local_state(str(tmp_path))
    os.utime(tmp_path / "model.safetensors", (1, 1))
    assert local_state(str(tmp_path)) != before


def _folder_of(folder: Path, content: bytes) -> Path:
    _touch(folder, "model.safetensors")
    (folder / "model.safetensors").write_bytes(content)
    os.utime(folder / "model.safetensors", ns=(10**18, 10**18))
    return folder


def test_state_shows_a_link_that_points_elsewhere(tmp_path):
    for name in ("one", "two"):
        _folder_of(tmp_path / name, b"same")
    link = tmp_path / "latest"
    states = []
    for name in ("one", "two"):
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        states.append(local_state(str(link)))
    assert states[0].keys() == states[1].keys() and states[0] != states[1]


def test_state_shows_a_link_of_one_file_that_points_elsewhere(tmp_path):
    """As in a snapshot of the hub's cache."""
    folder, file = tmp_path / "snapshot", tmp_path / "snapshot/model.safetensors"
    folder.mkdir()
    states = []
    for name in ("one", "two"):
        file.unlink(missing_ok=True)
        file.symlink_to(_folder_of(tmp_path / name, b"same") / "model.safetensors")
        states.append(local_state(str(folder)))
    assert states[0] != states[1]


def test_state_shows_other_bytes_of_the_same_size_and_time(tmp_path):
    states = [
        local_state(str(_folder_of(tmp_path / "model", np.random.default_rng(seed).bytes(100_000)))) for seed in (0, 1)
    ]
    assert states[0] != states[1]


def test_state_stays_with_a_folder_that_moves_and_a_file_that_is_put_back(tmp_path, monkeypatch):
    content = np.random.default_rng(0).bytes(100_000)
    states = []
    for work in ("first", "second"):
        (tmp_path / work).mkdir()
        monkeypatch.chdir(tmp_path / work)
        _folder_of(Path("ckpt-1"), content)
        Path("latest").symlink_to("ckpt-1")
        states.append(local_state("latest"))
    assert states[0] == states[1]


def test_a_dry_run_imports_nothing_heavy():
    code = "import sys, weight_atlas.checkpoint.source; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pandas", "huggingface_hub", "transformers"} & set(loaded)


@pytest.mark.parametrize(
    ("names", "chosen", "expected"),
    [
        (["model.safetensors", "pytorch_model.bin", "model.fp16.safetensors"], None, ["model.safetensors"]),
        (["a.safetensors", "b.safetensors"], None, ["a.safetensors", "b.safetensors"]),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "consolidated.safetensors"], None,
         ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]),
        (["pytorch_model.bin", "training_args.bin", "optimizer.pt", "rng_state_0.pth"], None, ["pytorch_model.bin"]),
        (["a-00001-of-00001.bin", "sampler.bin", "dl_state_dict.bin", "optimizer.bin"], None, ["a-00001-of-00001.bin"]),
        (["step_1000.pt", "scheduler.pt"], None, ["step_1000.pt"]),
        (["a.gguf"], None, ["a.gguf"]),
        (["model.safetensors", "x.gguf"], "x.gguf", ["x.gguf"]),
        (["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"], "x-00002-of-00002.gguf",
         ["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"]),
        (["adapter_config.json", "adapter_model.safetensors"], None, ["adapter_model.safetensors"]),
        (["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors"], None,
         ["adapter_model.safetensors"]),
        (["model.safetensors.index.json", "x.safetensors", "y.safetensors", "z.safetensors"], None,
         ["x.safetensors", "y.safetensors"]),
        (["pytorch_model.bin.index.json", "x.bin", "y.bin", "z.bin"], None, ["x.bin", "y.bin"]),
    ],
)  # fmt: skip
def test_choice_of_weight_files(names, chosen, expected):
    index = {"model.safetensors.index.json": ["x.safetensors", "y.safetensors"]}
    shards = {**index, "pytorch_model.bin.index.json": ["x.bin", "y.bin"]}
    found = list_files(names, where="here", chosen=chosen, shards_in=shards.__getitem__)
    assert list(found.shards) == expected
    assert found.index == next((name for name in names if name in shards), None)


@pytest.mark.parametrize(
    ("names", "chosen", "message"),
    [
        (["config.json"], None, "no weights here"),
        (["optimizer.pt", "training_args.bin"], None, "no weights here"),
        (["a.gguf", "b.gguf"], None, "several checkpoints"),
        (["a.pt", "b.pt"], None, "several checkpoints"),
        (["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"], None, "model-00002-of-00003"),
        (["model.safetensors"], "other.pt", "there is no file other.pt"),
        (["model.safetensors.index.json"], None, "outside its folder"),
    ],
)
def test_no_choice(names, chosen, message):
    with pytest.raises(AtlasError, match=message) as caught:
        list_files(names, where="here", chosen=chosen, shards_in=lambda index: ["../../secret.safetensors"])
    assert caught.value.remedy and json.dumps(caught.value.where)
