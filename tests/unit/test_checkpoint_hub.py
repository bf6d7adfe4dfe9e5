"""Downloading from the hub, against a stand-in that speaks its protocol on loopback."""

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from standin_hub import COMMIT, Repository, ask_instead, standin_hub
from steps import step

from weight_atlas.checkpoint import hub as hub_module
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.errors import AtlasError
from weight_atlas.settings.models import CheckpointSpec

SCRIPT = Path(__file__).parents[2] / "scripts/fetch_checkpoint.py"
MANIFEST = "results/model.json"
TOKEN = "hf_secretsecretsecretsecretsecret"


def _files(megabytes: float = 0.1) -> dict[str, bytes]:
    values = np.random.default_rng(0).standard_normal(int(megabytes * 250_000)).astype(np.float32)
    return {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b"{}",
        "model.safetensors": save({"a": values, "b": values[:4]}),
        "pytorch_model.bin": b"not wanted beside safetensors",
        "README.md": b"not wanted",
        "flax_model.msgpack": b"not wanted",
        "onnx/model.safetensors": b"not wanted",
    }


@pytest.fixture
def start(tmp_path):
    """Start fetch_checkpoint as a process with a cache of its own."""

    def start(endpoint: str, *options: str) -> subprocess.Popen:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        command = [sys.executable, str(SCRIPT), "--source", "hf://org/name", "--manifest", str(tmp_path / MANIFEST)]
        return subprocess.Popen(
            [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    """Do in this process what fetch_checkpoint does in one of its own; (exit code, output, manifest or None)."""
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "hub/token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def fetch(endpoint: str, *options: str) -> tuple[int, str, dict | None]:
        ask_instead(endpoint, monkeypatch, tmp_path / "hub/hub")
        code, manifest, printed = 0, tmp_path / MANIFEST, io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            try:
                step("fetch_checkpoint", "--source", "hf://org/name", "--manifest", manifest, *options)
            except SystemExit as end:
                code = end.code
        return code, printed.getvalue(), json.loads(manifest.read_text()) if manifest.exists() else None

    return fetch


def test_complete_download(start, fetch, tmp_path):
    files = _files()
    with standin_hub({"org/name": Repository(files)}) as hub:
        process = start(hub.endpoint, "--revision", "v1")
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        manifest = json.loads((tmp_path / MANIFEST).read_text())
        assert manifest["revision"] == COMMIT
        wanted = ["config.json", "model.safetensors", "tokenizer.json"]
        assert manifest["files"] == [
            {"name": name, "size": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
            for name in wanted
        ]
        asked = {path.rpartition("/")[2] for _, path, _ in hub.requests if "/resolve/" in path}
        assert asked == set(wanted)
        # A second run asks for the revision only; nothing is downloaded twice, and the manifest has the same bytes.
        before = (tmp_path / MANIFEST).read_bytes()
        hub.requests.clear()
        fetch(hub.endpoint, "--revision", "v1")
        assert [path for _, path, _ in hub.requests] == ["/api/models/org/name/revision/v1?blobs=true"]
        assert (tmp_path / MANIFEST).read_bytes() == before
    # With the commit as revision and all files in the cache, no hub is needed, and the manifest is the same.
    code, output, _ = fetch("http://127.0.0.1:9", "--revision", COMMIT)
    assert code == 0, output
    assert (tmp_path / MANIFEST).read_bytes() == before
    assert not list(tmp_path.rglob("*.incomplete"))


def test_only_the_shards_that_the_index_names(fetch):
    shards = {f"part-{i}.safetensors": save({f"t{i}": np.ones(3, np.float32)}) for i in range(3)}
    index = {"weight_map": {f"t{i}": f"part-{i}.safetensors" for i in range(2)}}
    files = {"model.safetensors.index.json": json.dumps(index).encode(), **shards}
    with standin_hub({"org/name": Repository(files)}) as hub:
        code, output, manifest = fetch(hub.endpoint)
    assert code == 0, output
    names = [file["name"] for file in manifest["files"]]
    assert names == ["model.safetensors.index.json", "part-0.safetensors", "part-1.safetensors"]


def test_the_model_s_own_code_only_where_it_is_trusted(fetch):
    files = {**_files(), "modeling_own.py": b"pass", "layers.py": b"pass"}
    with standin_hub({"org/name": Repository(files)}) as hub:
        _, _, without = fetch(hub.endpoint)
        _, _, trusted = fetch(hub.endpoint, "--trust-remote-code")
    names = [{file["name"] for file in manifest["files"]} for manifest in (without, trusted)]
    assert names[1] - names[0] == {"modeling_own.py", "layers.py"}


def test_killed_in_the_middle_of_a_file_goes_on_there(start, fetch, tmp_path):
    files = _files(megabytes=24)
    with standin_hub({"org/name": Repository(files)}) as hub:
        hub.stall_at = 15_000_000
        process = start(hub.endpoint)
        deadline = time.monotonic() + 600
        while _partial(tmp_path) < 1_000_000 and time.monotonic() < deadline:  # small files come as well
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        begun = _partial(tmp_path)
        assert 1_000_000 <= begun <= hub.stall_at
        hub.stall_at = None
        hub.requests.clear()
        code, output, manifest = fetch(hub.endpoint)
        assert code == 0, output
        assert [headers.get("range") for headers in hub.headers_of("/org/name/model.safetensors")] == [
            f"bytes={begun}-"
        ]
    digests = {file["name"]: file["sha256"] for file in manifest["files"]}
    assert digests["model.safetensors"] == hashlib.sha256(files["model.safetensors"]).hexdigest()
    cached = next((tmp_path / "hub").rglob("snapshots/*/model.safetensors"))
    assert cached.read_bytes() == files["model.safetensors"]
    assert not list(tmp_path.rglob("*.incomplete"))


def _partial(folder: Path) -> int:
    """Size of what there is of the weights: of the largest unfinished file, since a small one may lie beside it."""
    return max((path.stat().st_size for path in folder.rglob("*.incomplete")), default=0)


def test_a_dropped_connection_goes_on_within_the_run(fetch):
    with standin_hub({"org/name": Repository(_files(megabytes=24))}) as hub:
        hub.cut_at = 15_000_000
        code, output, _ = fetch(hub.endpoint)
        ranges = [headers.get("range") for headers in hub.headers_of("/org/name/model.safetensors")]
    assert code == 0, output
    assert ranges[0] is None and ranges[1].startswith("bytes=1")


def test_truncated_and_damaged_files_are_told(fetch):
    files = _files()
    whole = files["model.safetensors"]
    with standin_hub({"org/name": Repository(files)}) as hub:
        hub.spoil["model.safetensors"] = whole[:1000]
        code, output, manifest = fetch(hub.endpoint)
        assert (code, manifest) == (1, None)
        assert "a file arrived incomplete" in output
        # The bytes that came are kept, so another run only needs the rest.
        hub.spoil.clear()
        assert fetch(hub.endpoint)[0] == 0
    assert hub.headers_of("/org/name/model.safetensors")[-1]["range"] == "bytes=1000-"


def test_same_size_but_other_bytes(fetch):
    files = _files()
    with standin_hub({"org/name": Repository(files)}) as hub:
        hub.spoil["model.safetensors"] = files["model.safetensors"][:-1] + b"\0"
        code, output, _ = fetch(hub.endpoint)
        assert code == 1
        assert "model.safetensors arrived damaged" in output
        hub.spoil.clear()
        assert fetch(hub.endpoint)[0] == 0


def test_a_truncated_file_in_the_cache(fetch, tmp_path):
    with standin_hub({"org/name": Repository(_files())}) as hub:
        assert fetch(hub.endpoint)[0] == 0
        blob = next((tmp_path / "hub").rglob("snapshots/*/model.safetensors")).resolve()
        os.truncate(blob, 1000)
        code, output, _ = fetch(hub.endpoint)
    assert code == 1
    assert "is damaged: 1000 bytes" in output and str(blob) in output


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_bit_that_fell_over_in_the_cache(fetch, tmp_path, name):
    """The manifest says what lies here, and so finds it out, with the hub and without."""
    with standin_hub({"org/name": Repository(_files())}) as hub:
        assert fetch(hub.endpoint)[0] == 0
        blob = next((tmp_path / "hub").rglob(f"snapshots/*/{name}")).resolve()
        content = bytearray(blob.read_bytes())
        content[-2] ^= 1
        blob.write_bytes(content)
        for endpoint in (hub.endpoint, "http://127.0.0.1:9"):
            code, output, _ = fetch(endpoint, "--revision", COMMIT)
            assert code == 1
            assert "a file in the hub cache is damaged" in output and f"where: {blob}" in output
            assert "delete this file and run again" in output


@pytest.mark.parametrize(
    ("repository", "source", "revision", "message"),
    [
        (Repository({}), "hf://org/other", None, "no such model"),
        (Repository(_files()), "hf://org/name", "v9", "no such revision"),
        (Repository(_files(), access=401), "hf://org/name", None, "gated"),
        (Repository(_files(), access=403), "hf://org/name", None, "gated"),
        (Repository(_files(), access=403, closed=True), "hf://org/name", None, "gated"),
        (Repository({"README.md": b"-"}), "hf://org/name", None, "no weights here"),
        (Repository(_files()), "hf://org/name/other.gguf", None, "there is no file other.gguf"),
        (Repository({"model.safetensors": b"12345"}), "hf://org/name", None, "truncated"),
        (
            Repository({"model.safetensors.index.json": b'{"weight_map": {"a": "x.safetensors"}}'}),
            "hf://org/name",
            None,
            "the repository lacks: x.safetensors",
        ),
    ],
)
def test_one_clear_message(monkeypatch, tmp_path, repository, source, revision, message):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with standin_hub({"org/name": repository}) as hub:
        ask_instead(hub.endpoint, monkeypatch, tmp_path)
        with pytest.raises(AtlasError, match=message) as caught:
            make_manifest(CheckpointSpec(source=source, revision=revision))
    assert caught.value.remedy


def test_unreachable_hub(fetch):
    code, output, manifest = fetch("http://127.0.0.1:9")
    assert (code, manifest) == (1, None)
    assert "the hub cannot be reached" in output


def test_token_goes_to_the_hub_and_nowhere_else(fetch, tmp_path, monkeypatch):
    with standin_hub({"org/name": Repository(_files(), token=TOKEN)}) as hub:
        # A token that a login stored on this machine is left alone.
        (tmp_path / "hub").mkdir()
        (tmp_path / "hub/token").write_text("hf_stored")
        code, output, _ = fetch(hub.endpoint)
        assert code == 1 and "gated" in output
        assert not any("authorization" in headers for _, _, headers in hub.requests)
        hub.requests.clear()
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        code, output, _ = fetch(hub.endpoint)
        assert code == 0, output
        assert all(
            ("authorization" in headers) == ("/resolve/" in path or "/api/" in path)
            for _, path, headers in hub.requests
        )
        assert hub.headers_of("/api/")[0]["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in output
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_full_disk(monkeypatch, tmp_path):
    with pytest.raises(AtlasError, match="the disk is full"), hub_module.explaining("hf://org/name"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    with pytest.raises(AtlasError, match="to download"):
        hub_module.require_space(tmp_path / "snapshots/x", 10**18)
