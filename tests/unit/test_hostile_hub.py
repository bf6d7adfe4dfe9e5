"""Hubs that answer without an end, in circles or in drops: one clear message each, and no token lost."""

import gzip
import json
from functools import partial

import pytest
from standin_hub import COMMIT
from streamed_models import SOURCE, hub_of, tiny_files

from weight_atlas.checkpoint import bounded_answers
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.checkpoint.remote import fetch_headers
from weight_atlas.checkpoint.source import parse_source
from weight_atlas.errors import AtlasError
from weight_atlas.settings.models import CheckpointSpec

TOKEN = "hf_secretsecretsecretsecret"
LIST, CONFIG, SHARD = "/api/models/", "config.json", "-00001-of-"
ZEROS = bytes(1 << 20)
UNFOLDING = gzip.compress(bytes(20 << 20), 1)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with hub_of(tiny_files(2), monkeypatch, tmp_path / "hub") as hub:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.endpoint)
        yield hub


def headers(tmp_path):
    read = fetch_headers(parse_source(SOURCE), None, tmp_path)
    Checkpoint.indexed(tmp_path, read.listing, CheckpointSpec(source=SOURCE))


def download(_tmp_path):
    make_manifest(CheckpointSpec(source=SOURCE))


def modelscope(_tmp_path):
    make_manifest(CheckpointSpec(source="ms://org/model"))


def begin(handler, status):
    """The headers of an answer; those of a HEAD request are what huggingface_hub wants to see of a small file."""
    handler.send_response(status if handler.command == "GET" else 200)
    handler.send_header("X-Repo-Commit", COMMIT)
    handler.send_header("ETag", '"x"')
    if handler.command == "HEAD":
        handler.send_header("Content-Length", "2")
    handler.end_headers()


def endless(handler, status=200):
    """A body that goes on until the connection ends: 100 GB of zeros."""
    begin(handler, status)
    for _ in range(100 << 10 if handler.command == "GET" else 0):
        handler.wfile.write(ZEROS)


def endless_error(handler):
    endless(handler, 500)


def endless_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-More: " + b"x" * 1000 + b"\r\n")


def absurd_length(handler):
    handler.reply(200, b"{", Content_Length=str(100 << 30))


def unfolding(handler):
    handler.reply(200, UNFOLDING, Content_Encoding="gzip", ETag='"x"', X_Repo_Commit=COMMIT)


def circle(handler):
    handler.reply(302, Location=handler.path)


def local_file(handler):
    handler.reply(302, Location="file:///etc/passwd")


def nowhere(handler):
    handler.reply(302, Location="http://[bad")


def drops(handler):
    begin(handler, 200)
    while handler.command == "GET":
        handler.wfile.write(b" ")
        handler.wfile.flush()
        handler.hub.released.wait(0.02)


def no_json(handler):
    handler.reply(200, b"[" * 100_000, Content_Type="application/json")


ANSWERS = (
    endless, endless_error, endless_headers, absurd_length, unfolding, circle, local_file, nowhere, drops, no_json,
)  # fmt: skip
# Where it happens, and what asks.
PLACES = {
    "a list": (LIST, headers),
    "a small file": (CONFIG, download),
    "a header": (SHARD, headers),
    "a shard": (SHARD, download),
    "a list of ModelScope": ("/api/v1/models/", modelscope),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.__name__)
def test_one_clear_message(hub, monkeypatch, tmp_path, answer, place):
    monkeypatch.setattr(bounded_answers, "_PATIENCE", 0.2)
    monkeypatch.setattr(bounded_answers, "LISTS", 10 << 20)
    part, ask = PLACES[place]
    hub.instead[part] = answer
    with pytest.raises(AtlasError) as caught:
        ask(tmp_path)
    assert caught.value.remedy and TOKEN not in str(caught.value)


def elsewhere(hub):
    """Redirects to another origin, which answers with nothing of use."""
    hub.instead["/elsewhere"] = lambda handler: handler.reply(404, b"{}")
    return lambda handler: handler.reply(302, Location=f"{hub.content}/elsewhere")


@pytest.mark.parametrize("place", PLACES)
def test_a_token_goes_to_no_other_host(hub, tmp_path, place):
    part, ask = PLACES[place]
    hub.instead[part] = elsewhere(hub)
    with pytest.raises(AtlasError) as caught:
        ask(tmp_path)
    assert TOKEN not in str(caught.value)
    asked = hub.headers_of("/elsewhere") + hub.headers_of("/elsewhere", "HEAD")
    assert asked or part == CONFIG, "of small files huggingface_hub looks at the redirect itself"
    assert TOKEN not in str(asked)


NO_FILES = {"siblings": 5}, {"siblings": [5]}, {"siblings": [{"rfilename": 5}]}, {"siblings": [{"rfilename": "a\0b"}]}
NO_DIGESTS = "../../../../escaped", "", "A" * 64, "../" + "a" * 61, None, 5
LIES = (
    [], 5, "x", {}, {"id": "x"}, {"sha": "../../../escaped"}, {"sha": 5}, {"sha": None}, *NO_FILES,
    *({"siblings": [{"rfilename": "model.safetensors", "size": size}]} for size in (-1, "x", 1.5, [])),
    *(
        {"siblings": [{"rfilename": "model.safetensors", "lfs": {"size": 9, "sha256": digest, "pointerSize": 1}}]}
        for digest in NO_DIGESTS
    ),
)  # fmt: skip


def said(body, handler):
    handler.reply(200, body)


@pytest.mark.parametrize("ask", [headers, download])
def test_lists_of_files_that_are_none(hub, tmp_path, ask):
    """Names of folders and files are made of a commit and of digests: none leads out of the cache."""
    for lie in LIES:
        answer = {"id": "org/model", "sha": COMMIT, "siblings": []} | lie if isinstance(lie, dict) and lie else lie
        hub.instead[LIST] = partial(said, json.dumps(answer).encode())
        with pytest.raises(AtlasError) as caught:
            ask(tmp_path)
        assert caught.value.remedy, lie
    assert not list(tmp_path.rglob("*escaped*"))
