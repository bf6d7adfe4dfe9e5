"""Entries of the shared cache: whole or not there, whoever writes, reads, dies or damages."""

import json
import multiprocessing
import os
import signal
import time

import pytest

import weight_atlas.artifacts  # noqa: F401 (here, and not in every process that is forked)
from weight_atlas.digest_records import digests
from weight_atlas.workflow import shared_cache
from weight_atlas.workflow.shared_cache import SharedCache, key_of

fork = multiprocessing.get_context("fork")
KEY = "ab" * 32


@pytest.fixture
def cache(tmp_path):
    return SharedCache(tmp_path / "cache")


def made(folder, content="x"):
    """Outputs of a step, a file and a folder, and its log."""
    (folder / "figures").mkdir(parents=True)
    (folder / "table.csv").write_text(content)
    (folder / "figures/one.png").write_bytes(b"\x00" * 100_000)
    (folder / "log").write_text("said\n")
    return places(folder)


def places(folder):
    return {"output table": folder / "table.csv", "output figures": folder / "figures", "log": folder / "log"}


def entries(cache):
    """Complete entries, and what was left of others."""
    return sorted(cache.folder.glob("??/[!.]*")), sorted(cache.folder.glob("??/.*"))


def test_what_was_left_is_taken_by_another_folder_as_its_own_files(cache, tmp_path):
    assert not cache.take(KEY, places(tmp_path / "two"))
    cache.put(KEY, made(tmp_path / "one"))
    assert cache.take(KEY, places(tmp_path / "two"))
    for name in ("table.csv", "figures"):
        assert digests(tmp_path / "two" / name) == digests(tmp_path / "one" / name)
    assert (tmp_path / "two/log").read_text().splitlines()[0] == "said"
    assert "taken from the shared cache" in (tmp_path / "two/log").read_text()
    (tmp_path / "two/table.csv").write_text("by hand")  # no link: the others keep theirs
    assert cache.take(KEY, places(tmp_path / "three")) and (tmp_path / "three/table.csv").read_text() == "x"


@pytest.mark.parametrize(("rights", "entry", "file"), [(0o2775, 0o2755, 0o644), (0o2770, 0o2750, 0o640)])
def test_rights_are_those_of_the_folder_whatever_the_umask(cache, tmp_path, rights, entry, file):
    cache.folder.mkdir()
    cache.folder.chmod(rights)
    umask = os.umask(0o077)
    try:
        cache.put(KEY, made(tmp_path / "one"))
    finally:
        os.umask(umask)
    (folder,) = cache.folder.iterdir()
    found = {path: path.stat().st_mode & 0o7777 for path in (folder, *folder.rglob("*"))}
    assert found.pop(folder) == rights
    assert {mode for path, mode in found.items() if path.is_dir()} == {entry}
    assert {mode for path, mode in found.items() if path.is_file()} == {file}


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "record"])
def test_a_damaged_entry_is_not_taken_and_is_made_again(cache, tmp_path, damage, capfd):
    cache.put(KEY, made(tmp_path / "one"))
    ((entry,), _) = entries(cache)
    picture = entry / "output figures/one.png"
    {
        "flip": lambda: picture.write_bytes(b"\x01" + picture.read_bytes()[1:]),
        "truncate": lambda: os.truncate(picture, 50),
        "remove": picture.unlink,
        "record": lambda: (entry / "record.json").write_text("{"),
    }[damage]()
    assert not cache.take(KEY, places(tmp_path / "two")) and not (tmp_path / "two").exists()
    assert "damaged in the shared cache" in capfd.readouterr().out
    cache.put(KEY, made(tmp_path / "three"))
    assert cache.take(KEY, places(tmp_path / "four"))


def test_of_many_writers_of_one_entry_the_first_counts_and_readers_see_all_or_nothing(cache, tmp_path):
    def write(number):
        files = made(tmp_path / f"writer{number}", content="same")
        for _ in range(10):
            cache.put(KEY, files)

    def read(number):
        taken = 0
        for turn in range(40):
            files = places(tmp_path / f"reader{number}-{turn}")
            if cache.take(KEY, files):
                assert files["output table"].read_text() == "same"
                taken += 1
        os._exit(0 if taken else 3)

    crowd = [fork.Process(target=write, args=(number,)) for number in range(6)]
    for process in crowd:
        process.start()
    readers = [fork.Process(target=read, args=(number,)) for number in range(4)]
    crowd[0].join()
    for process in readers:
        process.start()
    for process in crowd + readers:
        process.join()
    assert [process.exitcode for process in crowd + readers] == [0] * 10
    complete, left = entries(cache)
    assert len(complete) == 1 and not left


def test_a_killed_writer_leaves_nothing_that_is_taken(cache, tmp_path, monkeypatch):
    files = made(tmp_path / "one")
    for number in range(12):
        writer = fork.Process(target=lambda: [cache.put(f"{KEY[:-8]}{n:08x}", files) for n in range(100_000)])
        writer.start()
        while not entries(cache)[0]:
            time.sleep(0.005)
        time.sleep(0.01 + 0.005 * number)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    complete, _ = entries(cache)
    for number, entry in enumerate(complete):
        assert cache.take(entry.name, places(tmp_path / f"reader{number}"))
    assert complete
    monkeypatch.setattr(shared_cache, "_ABANDONED", -1)
    cache.put(KEY, files)
    assert entries(cache)[1] == []


def test_a_cache_that_cannot_be_written_costs_no_step_its_outputs(cache, tmp_path, capfd):
    cache.folder.write_text("no folder")
    cache.put(KEY, made(tmp_path / "one"))
    assert "not left in the shared cache" in capfd.readouterr().out


def test_keys_follow_contents_settings_and_code_and_not_places(tmp_path, monkeypatch):
    def key(*, weights="12", source="here", table="x", options=None, gpu=False, folder="a"):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        files = [{"name": "model.safetensors", "size": 2, "sha256": weights}]
        manifest = {"source": source, "revision": None, "prefix": None, "files": files}
        (place / "demo.json").write_text(json.dumps(manifest))
        (place / "demo.csv").write_text(table)
        inputs = {"checkpoint": str(place / "demo.json"), "tables": [str(place / "demo.csv")]}
        return key_of({"options": options or {"top": 3}, "code": ["c0de"]}, inputs, on_gpu=gpu)

    plain = key()
    assert key() == key(folder="b") == key(source="there") == plain
    others = [key(weights="13"), key(table="y"), key(options={"top": 4}), key(gpu=True)]
    monkeypatch.setattr(shared_cache, "version", lambda name: "99")
    others.append(key())
    assert len({plain, *others}) == 6
