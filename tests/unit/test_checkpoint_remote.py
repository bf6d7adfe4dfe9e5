"""Models on the hub by the headers of their files: the same inventory as after a download, and no weights requested."""

from pathlib import Path

import pytest
from standin_hub import COMMIT, Repository, ask_instead, in_shards, standin_hub

import weight_atlas as wa
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.remote import fetch_headers
from weight_atlas.checkpoint.source import bundled, parse_source
from weight_atlas.errors import AtlasError
from weight_atlas.families.inventory import inventory
from weight_atlas.settings.models import CheckpointSpec

SOURCE = "hf://org/model"


@pytest.fixture
def hub(monkeypatch):
    files = {path.name: path.read_bytes() for path in bundled("demo").iterdir() if path.is_file()}
    with standin_hub({"org/model": Repository(files)}) as hub:
        ask_instead(hub.endpoint, monkeypatch)
        yield hub


def split(hub, shards: int, padding: int = 0) -> int:
    """Store the model in shards, each header longer by padding; returns the bytes of all."""
    files = hub.repositories["org/model"].files
    made = in_shards(files.pop("model.safetensors"), shards, padding=padding, scattered=True)
    files |= made
    return sum(len(body) for name, body in made.items() if name.endswith(".safetensors"))


def read(tmp_path: Path, revision: str | None = None):
    headers = fetch_headers(parse_source(SOURCE), revision, tmp_path)
    return headers, Checkpoint.indexed(tmp_path, headers.listing, CheckpointSpec(source=SOURCE))


def test_the_inventory_is_that_of_the_model_itself(hub, tmp_path):
    headers, checkpoint = read(tmp_path)
    assert headers.commit == COMMIT
    assert inventory(checkpoint).drop(columns="shard").equals(wa.open("bundled:demo").inventory.drop(columns="shard"))


def test_only_headers_are_requested_once_a_shard(hub, tmp_path):
    whole = split(hub, 5)
    headers, checkpoint = read(tmp_path)
    assert len(inventory(checkpoint)) == len(wa.open("bundled:demo").inventory)
    parts = hub.headers_of("safetensors")
    ranged = [each["range"] for each in parts if "range" in each]
    assert len(hub.headers_of("-of-00005.safetensors")) == 2 * 5, "one request each, with its redirect"
    assert len(ranged) == 2 * 5
    assert headers.requests == 1 + 1 + 5 + 1  # listing, index, shards, config.json
    assert headers.bytes < whole
    assert not hub.headers_of("tokenizer")


def test_a_long_header_takes_a_second_request(hub, tmp_path):
    split(hub, 2, padding=300_000)
    headers, checkpoint = read(tmp_path)
    assert len(inventory(checkpoint)) == len(wa.open("bundled:demo").inventory)
    assert headers.requests == 1 + 1 + 2 * 2 + 1


def test_what_goes_wrong_is_one_message(hub, tmp_path):
    files = hub.repositories["org/model"].files
    with pytest.raises(AtlasError, match="no such revision"):
        read(tmp_path, "absent")
    files["model.safetensors"] = b"<html>" + files["model.safetensors"]
    with pytest.raises(AtlasError, match="not a safetensors file"):
        read(tmp_path)
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    with pytest.raises(AtlasError, match="only headers of safetensors"):
        read(tmp_path)
    hub.repositories.clear()
    with pytest.raises(AtlasError, match="the hub has no such model"):
        read(tmp_path)
