"""`weight-atlas check`: every kind of damage in results is found and named, and only what is damaged is removed."""

import json
import os
import shutil
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from weight_atlas.command.check import check
from weight_atlas.digest_records import LOST, DigestRecords
from weight_atlas.errors import AtlasError
from weight_atlas.pages.step_costs import write_step_costs
from weight_atlas.workflow.location import LIBRARY, workflow_folder
from weight_atlas.workflow.provenance import code_digest

FILES = ("a/m.csv", "a/m.png", "a/n.csv", "b/m.parquet", "pages/m/1.js", "pages/m/2.js")
OUTPUTS = ("a/m.csv", "a/m.png", "a/n.csv", "b/m.parquet", "pages/m")


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("results")
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} " * 50)
    (folder / "pages/m/.snakemake_timestamp").touch()
    for name in OUTPUTS:
        DigestRecords(folder).write(folder / name, "made from this")
    return folder


def checked(capsys, **options) -> tuple[int, dict]:
    """The exit code, and what is said with names below the results."""
    code = 0
    try:
        check(json_=True, **options)
    except SystemExit as ended:
        code = ended.code
    found = json.loads(capsys.readouterr().out)
    names = {kind: sorted(os.path.relpath(path, "results") for path in found[kind]) for kind in ("missing", "foreign")}
    return code, names | {"damaged": {os.path.relpath(path, "results"): why for path, why in found["damaged"].items()}}


def flip(results):
    path = results / "a/m.csv"
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(content[:20] + bytes([content[20] ^ 4]) + content[21:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def swap(results):
    (results / "a/m.csv").rename(results / "x")
    (results / "a/n.csv").rename(results / "a/m.csv")
    (results / "x").rename(results / "a/n.csv")


def to_folder(results):
    (results / "a/m.csv").unlink()
    (results / "a/m.csv").mkdir()
    (results / "a/m.csv/x").touch()


def to_link(results):
    (results / "a/m.csv").unlink()
    (results / "a/m.csv").symlink_to("nowhere")


def lose_record(results):
    (results / ".weight-atlas/records/a/m.csv.json").unlink()


def lose_records_of_folder(results):
    shutil.rmtree(results / ".weight-atlas/records/a")


def spoil_record(results):
    record = results / ".weight-atlas/records/a/m.csv.json"
    record.write_text(record.read_text().replace("made from this", "made from that"))


OTHER = "it has other bytes"
DAMAGED = {
    "a flipped bit": (flip, {"a/m.csv": OTHER}),
    "truncated": (lambda results: os.truncate(results / "b/m.parquet", 9), {"b/m.parquet": OTHER}),
    "emptied": (lambda results: os.truncate(results / "a/m.png", 0), {"a/m.png": OTHER}),
    "swapped": (swap, {"a/m.csv": OTHER, "a/n.csv": OTHER}),
    "a file of a folder": (
        lambda results: os.truncate(results / "pages/m/2.js", 3),
        {"pages/m": "2.js has other bytes"},
    ),
    "a file of a folder gone": (lambda results: (results / "pages/m/1.js").unlink(), {"pages/m": "1.js is gone"}),
    "a folder": (to_folder, {"a/m.csv": "a folder where a file was, or the other way round"}),
    "a link to nothing": (to_link, {"a/m.csv": "a link to nothing"}),
    "its record": (spoil_record, {"a/m.csv": "the record of a file's digest is damaged"}),
    "its record lost": (lose_record, {"a/m.csv": LOST}),
    "all records of a folder lost": (lose_records_of_folder, dict.fromkeys(("a/m.csv", "a/m.png", "a/n.csv"), LOST)),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_named_and_removed(results, capsys, kind):
    """What is left is whole, as it was, and what is gone is known to nobody: the next run makes it."""
    spoil, damaged = DAMAGED[kind]
    before = {path: path.stat() for path in results.rglob("*") if path.is_file()}
    spoil(results)
    found = {"damaged": damaged, "missing": [], "foreign": []}
    assert checked(capsys) == (1, found)
    assert checked(capsys, rebuild=True) == (0, found)
    assert {name for name in OUTPUTS if not os.path.lexists(results / name)} == damaged.keys()
    assert {name for name in OUTPUTS if DigestRecords(results).of(results / name) is None} == damaged.keys()
    kept = [path for path in before if not any(path.is_relative_to(results / name) for name in damaged)]
    assert all(path.stat() == before[path] for path in kept if ".weight-atlas" not in path.parts)
    assert checked(capsys) == (0, {"damaged": {}, "missing": [], "foreign": []})


def made(name: str, code: str) -> None:
    """Snakemake's own record of a job."""
    path = Path(".snakemake/metadata") / urlsafe_b64encode(f"results/{name}".encode()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rule": "effective_rank", "params": ["'effective_rank'", f"['{code}']"]}))


def test_without_any_records_what_this_code_made_is_damaged_and_what_older_code_made_is_foreign(results, capsys):
    """Which made records of what it wrote, or may be of a time without them."""
    shutil.rmtree(results / ".weight-atlas")
    for name in OUTPUTS:
        made(name, "0123456789abcdef")
    with pytest.raises(AtlasError, match="no records of results here"):
        check()
    code = code_digest(workflow_folder() / "scripts/effective_rank.py", LIBRARY)
    for name in ("a/m.csv", "pages/m"):
        made(name, code)
    found = {"damaged": dict.fromkeys(("a/m.csv", "pages/m"), LOST), "missing": []}
    found["foreign"] = ["a/m.png", "a/n.csv", "b/m.parquet"]
    assert checked(capsys) == (1, found) and checked(capsys, rebuild=True) == (0, found)
    assert [name for name in OUTPUTS if not (results / name).exists()] == ["a/m.csv", "pages/m"]


def test_what_is_whole(results, capsys):
    assert checked(capsys) == (0, {"damaged": {}, "missing": [], "foreign": []})
    check()
    assert capsys.readouterr().out == "5 whole, 0 damaged, 0 missing, 0 foreign\n"


def test_what_is_gone_is_missing(results, capsys):
    (results / "a/m.csv").unlink()
    shutil.rmtree(results / "pages")
    assert checked(capsys) == (1, {"damaged": {}, "missing": ["a/m.csv", "pages/m"], "foreign": []})
    assert checked(capsys, rebuild=True)[0] == 0
    assert checked(capsys) == (0, {"damaged": {}, "missing": [], "foreign": []})


def test_what_a_run_writes_when_it_ends_is_not_foreign(results, capsys, tmp_path):
    (results / "atlas/assets").mkdir(parents=True)
    write_step_costs(tmp_path / "no benchmarks", results / "atlas")
    assert (results / "atlas/steps.js").is_file()
    assert checked(capsys) == (0, {"damaged": {}, "missing": [], "foreign": []})


def test_foreign_files_are_named_and_stay(results, capsys, tmp_path):
    names = ["a/notes.txt", "link", "pages/m/3.js", "\x1b[31mred\n.txt"]
    for name in names:
        (results / name).symlink_to(tmp_path) if name == "link" else (results / name).touch()
    expected = {"damaged": {}, "missing": [], "foreign": sorted(names)}
    assert checked(capsys) == (1, expected) and checked(capsys, rebuild=True) == (0, expected)
    with pytest.raises(SystemExit):
        check()
    said = capsys.readouterr().out
    assert "foreign: results/\\x1b[31mred\\n.txt\n" in said and "\x1b" not in said
    assert all(os.path.lexists(results / name) for name in names)


def test_an_output_that_was_moved_and_linked_is_what_the_link_leads_to(results, capsys, tmp_path):
    (results / "a/m.csv").rename(tmp_path / "moved")
    (results / "a/m.csv").symlink_to(tmp_path / "moved")
    assert checked(capsys)[0] == 0
    (tmp_path / "moved").write_text("other")
    assert checked(capsys)[1]["damaged"] == {"a/m.csv": OTHER}


def test_results_elsewhere_and_nothing_to_check(results, capsys, tmp_path):
    shutil.copytree(results, tmp_path / "other/place")
    flip(tmp_path / "other/place")
    with pytest.raises(SystemExit):
        check(results=tmp_path / "other/place", workers=1)
    assert f"damaged: {tmp_path}/other/place/a/m.csv ({OTHER})" in capsys.readouterr().out
    for rebuild in (False, True):
        with pytest.raises(AtlasError, match="no records of results here"):
            check(directory=tmp_path / "other", rebuild=rebuild)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["place"]


def test_nothing_is_removed_while_a_run_is_at_work(results, monkeypatch):
    flip(results)

    def held(*folders):
        raise AtlasError("another run is at work in this directory")

    monkeypatch.setattr("weight_atlas.command.check.hold_all", held)
    with pytest.raises(AtlasError, match="another run is at work"):
        check(rebuild=True)
    assert (results / "a/m.csv").exists()
