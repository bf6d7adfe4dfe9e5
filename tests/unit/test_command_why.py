"""`weight-atlas why`: what made a file, from records as Snakemake writes them."""

import hashlib
import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from weight_atlas.command.why import origin, why
from weight_atlas.digest_records import DigestRecords
from weight_atlas.errors import AtlasError
from weight_atlas.workflow import provenance, versions
from weight_atlas.workflow.location import LIBRARY, workflow_folder
from weight_atlas.workflow.renewal import RENEWED

CODE = provenance.code_digest(workflow_folder() / "scripts/effective_rank.py", LIBRARY)
RECORD = {
    "rule": "effective_rank", "input": ["results/a.parquet", "results/b.parquet", "results/gone.csv"],
    "log": ["logs/effective_rank/m.log"], "params": ["'effective_rank'", f"['{CODE}']", "{'phases': 3, 'x': None}"],
    "starttime": 1000.0, "endtime": 1002.5,
    "input_checksums": {"results/a.parquet": "sha256:" + hashlib.sha256(b"a").hexdigest()},
}  # fmt: skip


def write(folder: Path, key: str, record: object) -> None:
    coded = urlsafe_b64encode(key.encode()).decode()
    parts = [coded[start : start + 254] for start in range(0, len(coded), 254)]
    path = (folder / ".snakemake/metadata").joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record if isinstance(record, str) else json.dumps(record))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "results/effective_rank/m.csv", RECORD)
    for name in ("results/a.parquet", "results/b.parquet", "logs/effective_rank/m.log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "results/a.parquet").write_bytes(b"a")
    (tmp_path / "results/b.parquet").write_bytes(b"b")
    os.utime(tmp_path / "results/b.parquet", (900, 900))
    (tmp_path / "logs/effective_rank/m.log").write_text("versions: python 3.11, torch 2.9\nerror: x\n")
    return tmp_path


def test_what_made_a_file(folder, monkeypatch):
    expected = {
        "file": "results/effective_rank/m.csv", "rule": "effective_rank", "seconds": 2.5,
        "inputs": {"results/a.parquet": "as it was", "results/b.parquet": "as it was", "results/gone.csv": "gone"},
        "settings": {"phases": 3, "x": None}, "code": {"digest": CODE, "now": "as it was"},
        "versions": "python 3.11, torch 2.9", "log": "logs/effective_rank/m.log", "content": "gone", "renewed": False,
    }  # fmt: skip
    found = origin(Path("results/effective_rank/m.csv"), folder)
    assert found.pop("ended").startswith("1970-01-01") and found == expected
    monkeypatch.chdir(folder / "results")
    assert origin(Path("effective_rank/m.csv"), Path(".."))["rule"] == "effective_rank"
    assert origin(folder / "results/effective_rank/m.csv", folder)["rule"] == "effective_rank"


def test_a_file_is_held_to_its_record(folder, capsys):
    file, records = folder / "results/effective_rank/m.csv", DigestRecords(folder / "results")
    file.parent.mkdir(exist_ok=True)
    file.write_text("a\n1\n")
    assert origin(file, folder)["content"] == "without a record of its bytes"
    records.write(file, "made from this")
    with (folder / "logs/effective_rank/m.log").open("a") as log:
        log.write(f"{RENEWED}\n")
    why(file, directory=folder)
    said = capsys.readouterr().out
    assert "m.csv (as its step wrote it)" in said and "made from: renewed, not run again" in said
    file.write_text("a\n2\n")
    assert origin(file, folder)["content"] == "not what its step wrote: damaged, or changed by hand"


def test_what_is_another_by_now(folder):
    (folder / "results/a.parquet").write_bytes(b"A")
    os.utime(folder / "results/b.parquet")
    write(folder, "results/x.csv", {**RECORD, "params": ["'effective_rank'", "['0123456789abcdef']", "{'a': inf}"]})
    found = origin(Path("results/x.csv"), folder)
    assert found["inputs"]["results/a.parquet"] == "changed since"
    assert found["inputs"]["results/b.parquet"] == "changed or touched since"
    assert found["code"]["now"] == "changed since" and found["settings"] == {}


def test_long_names_and_files_without_a_record(folder):
    name = f"results/{'x' * 250}/{'y' * 250}.csv"
    write(folder, name, RECORD)
    assert origin(Path(name), folder)["file"] == name
    write(folder, "results/broken.csv", "{")
    for wrong in ("results/a.parquet", "results/broken.csv", "nowhere"):
        with pytest.raises(AtlasError, match="no record of what made this file"):
            origin(Path(wrong), folder)


def test_it_is_printed(folder, capsys):
    why(Path("results/effective_rank/m.csv"), directory=folder)
    text = capsys.readouterr().out
    for part in (
        "made by   effective_rank",
        "results/a.parquet (as it was)",
        "phases: 3",
        f"{CODE} (as it was)",
        "torch 2.9",
    ):
        assert part in text
    why(Path("results/effective_rank/m.csv"), directory=folder, json_=True)
    assert json.loads(capsys.readouterr().out)["settings"] == {"phases": 3, "x": None}


def test_versions_are_of_the_libraries_that_a_step_imports(tmp_path, monkeypatch):
    numbers = {"torch": "2.9.1+cu", "numpy": "2.3.0", "lm_eval": "0.4.9"}

    def version(name: str) -> str:
        if name not in numbers:
            raise versions.PackageNotFoundError(name)
        return numbers[name]

    monkeypatch.setattr(versions, "version", version)
    assert versions.versions() == {"torch": "2.9", "lm_eval": "0.4", "numpy": "2.3"}
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("")
    (tmp_path / "lib/deep.py").write_text("def f():\n    import torch.nn\n    import scipy\n")
    (tmp_path / "step.py").write_text("import lib.deep\n")
    assert provenance.library_versions(tmp_path / "step.py", tmp_path / "lib") == {"torch": "2.9"}
