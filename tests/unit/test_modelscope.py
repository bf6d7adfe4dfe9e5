"""ModelScope as a source, against a stand-in of its HTTP interface: downloaded, and streamed."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from standin_hub import Fault
from streamed_models import fetched, hub_of, local, streamed_parts, tiny_files

from weight_atlas.checkpoint import snapshots
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.checkpoint.transfer import fetch_file
from weight_atlas.errors import AtlasError
from weight_atlas.settings.models import CheckpointSpec
from weight_atlas.settings.tokenizers import TokenizerSpec
from weight_atlas.streamed.merging import in_order
from weight_atlas.tokens.tokenizer_fetch import fetch_tokenizer
from weight_atlas.tokens.tokenizer_source import open_tokenizer

SOURCE = "ms://org/model"
TOKEN = "ms-" + "x" * 30


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    with hub_of(tiny_files(3) | {"tokenizer.json": b"{}"}, monkeypatch, tmp_path / "hub") as hub:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.endpoint)
        yield hub


def test_a_download_is_the_same_model(hub, tmp_path):
    made = fetched(tmp_path, SOURCE)
    expected = local(tmp_path / "local", hub.repositories["org/model"].files)
    assert made[1].read_bytes() == expected[1].read_bytes()
    files, others = (json.loads(path.read_text())["files"] for path in (made[0], expected[0]))
    assert files == others
    assert "lm_head.weight" in open_checkpoint(made[0]).entries
    sent = hub.sent
    make_manifest(CheckpointSpec(source=SOURCE))
    assert hub.sent == sent, "what is here is not downloaded again"


def test_models_of_one_repository_fetched_at_once_fetch_each_file_once(hub, monkeypatch):
    came: list[str] = []

    def fetch_slowly(repository, name, path):
        came.append(name)
        time.sleep(0.1)  # the other one comes here meanwhile
        return fetch_file(repository, name, path)

    monkeypatch.setattr(snapshots, "fetch_file", fetch_slowly)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(make_manifest, [CheckpointSpec(source=SOURCE)] * 2)
    assert one == other
    assert sorted(came) == sorted({*came})


def test_streamed(hub, tmp_path):
    first = min(name for name in hub.repositories["org/model"].files if name.endswith(".safetensors"))
    made = fetched(tmp_path, SOURCE, stream=True)
    hub.faults[first] = [Fault(cut=30_000), Fault(status=429, headers={"Retry-After": "2"})]
    before = hub.sent
    parts = streamed_parts(tmp_path / "parts", made, 2, steps=["sparsity"])
    weights = sum(len(body) for name, body in hub.repositories["org/model"].files.items() if name.endswith("ensors"))
    assert hub.sent - before <= 1.1 * weights and 2 in hub.waits
    found = in_order(parts["structures"])
    assert found["id"].tolist() == pd.read_parquet(made[1]).query("cols.notna()")["id"].tolist()


def test_a_repository_that_changed_is_told(hub, tmp_path):
    made = fetched(tmp_path, SOURCE, stream=True)
    hub.repositories["org/model"].files["README.md"] = b"new"
    with pytest.raises(AtlasError, match="the repository has changed since master was read"):
        streamed_parts(tmp_path / "parts", made, 1, steps=[])


def test_damage_is_told_by_the_listed_digest(hub):
    name = min(name for name in hub.repositories["org/model"].files if name.endswith(".safetensors"))
    body = hub.repositories["org/model"].files[name]
    hub.spoil[name] = body[:-1] + bytes([body[-1] ^ 1])
    with pytest.raises(AtlasError, match="arrived damaged, or was changed"):
        make_manifest(CheckpointSpec(source=SOURCE))


def test_a_tokenizer_alone(hub, tmp_path):
    manifest = tmp_path / "tokenizer.json"
    manifest.write_text(json.dumps(fetch_tokenizer(TokenizerSpec(source=SOURCE))))
    assert (open_tokenizer(manifest) / "tokenizer.json").read_bytes() == b"{}"
    assert not hub.headers_of(".safetensors")


def test_access(hub, monkeypatch, tmp_path):
    hub.repositories["org/model"].token = TOKEN
    with pytest.raises(AtlasError, match=r"the hub refuses access \(403\)") as caught:
        make_manifest(CheckpointSpec(source=SOURCE))
    assert "MODELSCOPE_API_TOKEN" in caught.value.remedy
    hub.requests.clear()
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    manifest = make_manifest(CheckpointSpec(source=SOURCE))
    assert TOKEN not in json.dumps(manifest)
    secret = {"authorization", "cookie"}
    assert all(secret <= headers.keys() for headers in hub.headers_of("/api/v1/"))
    content = [headers for _, path, headers in hub.requests if path.startswith("/org/model/")]
    assert content and not any(secret & headers.keys() for headers in content)


@pytest.mark.parametrize(("source", "revision"), [("ms://org/other", None), (SOURCE, "v9")])
def test_what_is_not_there(hub, source, revision):
    with pytest.raises(AtlasError, match="no such model or revision"):
        make_manifest(CheckpointSpec(source=source, revision=revision))
