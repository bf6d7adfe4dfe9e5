"""Bytes of files on a hub, whatever goes wrong on the way: the right ones, or one clear message."""

import email.utils
import socket
import time

import pytest
from standin_hub import COMMIT, Fault
from streamed_models import SOURCE, hub_of

from weight_atlas.checkpoint.hub import explaining
from weight_atlas.checkpoint.reach import repository_at
from weight_atlas.checkpoint.source import parse_source
from weight_atlas.checkpoint.transfer import TRIES, arriving, fetch_file
from weight_atlas.errors import AtlasError

NAME = "model.safetensors"
BODY = bytes(range(256)) * 12_000  # 3 MB
FILES = {NAME: BODY, "config.json": b'{"model_type": "llama"}'}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_of(dict(FILES), monkeypatch, tmp_path / "hub") as hub:
        yield hub


def reached():
    return repository_at(parse_source(SOURCE), None)


def fetch(path):
    repository = reached()
    with explaining(SOURCE):
        return fetch_file(repository, NAME, path / NAME)


PASSING = {
    "rate limit": [Fault(status=429, headers={"Retry-After": "7"})],
    "overloaded": [Fault(status=503), Fault(status=500), Fault(status=502), Fault(status=504), Fault(status=408)],
    "cut short": [Fault(cut=1_000_000), Fault(cut=1_500_000)],
    "reset": [Fault(cut=700_000, reset=True), Fault(cut=0, reset=True)],
    "cut, then busy": [Fault(cut=2_000_000), Fault(status=503), Fault(cut=10)],
}


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_what_passes_is_tried_again_and_no_byte_comes_twice(hub, tmp_path, faults):
    hub.faults[NAME] = list(faults)
    assert fetch(tmp_path) is True
    assert (tmp_path / NAME).read_bytes() == BODY
    lost = sum(fault.cut for fault in faults if fault.reset)  # at most: a reset takes with it what nobody read yet
    assert hub.sent <= len(BODY) + lost
    assert len(hub.waits) == len(faults)
    assert hub.waits[0] == (7 if faults[0].headers else 1)


def test_waits_double_until_a_byte_arrives(hub, tmp_path):
    hub.faults[NAME] = [*[Fault(status=503)] * 4, Fault(cut=1000), Fault(status=503)]
    fetch(tmp_path)
    assert hub.waits == [1, 2, 4, 8, 1, 2]


def test_a_date_to_wait_until(hub, tmp_path):
    when = email.utils.formatdate(time.time() + 100, usegmt=True)
    hub.faults[NAME] = [Fault(status=429, headers={"Retry-After": when})]
    fetch(tmp_path)
    assert 80 < hub.waits[0] <= 100


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=503), r"the hub cannot be reached \(status 503\)"),
        (Fault(status=429), r"the hub cannot be reached \(status 429\)"),
        (Fault(cut=0, reset=True), r"the hub cannot be reached \(\w+Error\)"),
        (Fault(cut=0), r"the hub cannot be reached \(\w+\)"),
    ],
)
def test_what_does_not_pass_is_told_and_what_came_is_kept(hub, tmp_path, fault, message):
    hub.faults[NAME] = [Fault(cut=1_000_000), *[fault] * (TRIES + 1)]
    with pytest.raises(AtlasError, match=message) as caught:
        fetch(tmp_path)
    assert caught.value.remedy
    assert 0 < (tmp_path / f"{NAME}.incomplete").stat().st_size <= 1_000_000
    hub.faults[NAME] = []
    assert fetch(tmp_path)
    assert (tmp_path / NAME).read_bytes() == BODY
    assert hub.sent <= len(BODY) + len(FILES["config.json"])


def test_a_hub_that_never_answered_is_given_up_within_seconds_with_a_word_at_every_try(
    hub, tmp_path, capsys, monkeypatch
):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(AtlasError, match=r"the hub cannot be reached \(ConnectError\)"):
            reached()
    assert hub.waits == [1, 2, 4, 8]
    assert capsys.readouterr().err.splitlines() == ["the hub: ConnectError, trying again"] * 4


@pytest.mark.parametrize("asked", [400_000, 0])
def test_a_server_without_ranges(hub, asked):
    """Sends all, of which the wanted bytes are taken."""
    hub.faults[NAME] = [Fault(no_ranges=True)]
    assert b"".join(arriving(reached(), NAME, asked, 500_000)) == BODY[asked:500_000]


def test_a_hub_that_asks_for_hours_is_told_at_once(hub, tmp_path):
    hub.faults[NAME] = [Fault(status=429, headers={"Retry-After": "90000"})]
    with pytest.raises(AtlasError, match="status 429"):
        fetch(tmp_path)
    assert hub.waits == []


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (BODY[:-1] + b"\0", "arrived damaged, or was changed"),
        (BODY[:1000], "has 1000 bytes, listed are 3072000"),
        (BODY + b"more", "listed are 3072000"),
    ],
)
def test_other_bytes_than_were_listed(hub, tmp_path, now, message):
    hub.spoil[NAME] = now
    with pytest.raises(AtlasError, match=message) as caught:
        fetch(tmp_path)
    assert caught.value.remedy
    assert not (tmp_path / NAME).exists()
    hub.spoil.clear()
    assert fetch(tmp_path) and (tmp_path / NAME).read_bytes() == BODY


def test_a_file_that_changed_since_it_was_listed(hub):
    repository = reached()
    hub.repositories["org/model"].files[NAME] = BODY[::-1]
    with pytest.raises(AtlasError, match="not the file that the hub listed: its digest is now"):
        list(arriving(repository, NAME, 10, 20))


def test_a_file_that_grew_shorter_is_told_by_its_ranges(hub):
    repository = reached()
    hub.spoil[NAME] = BODY[:1000]
    with pytest.raises(AtlasError, match="not the file that the hub listed"):
        list(arriving(repository, NAME, 10, 20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"access": 401}, "gated"),
        ({"access": 403, "closed": True}, "gated"),
        ({"token": "hf_" + "x" * 30}, "gated"),
    ],
)
def test_access(monkeypatch, tmp_path, options, message):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub_of(dict(FILES), monkeypatch, tmp_path / "hub", **options) as hub:
        with pytest.raises(AtlasError, match=message) as caught:
            fetch(tmp_path)
        assert "HF_TOKEN" in caught.value.remedy
        assert hub.waits == [], "what does not pass is not tried again"
        if token := options.get("token"):
            monkeypatch.setenv("HF_TOKEN", token)
            assert fetch(tmp_path)
            assert all("authorization" not in headers for headers in hub.headers_of(f"/org/model/{NAME}"))


def test_the_commit_is_asked_for_not_the_branch(hub, tmp_path):
    fetch(tmp_path)
    assert all(f"/resolve/{COMMIT}/" in path for _, path, _ in hub.requests if "/resolve/" in path)
