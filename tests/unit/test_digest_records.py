"""Records of what steps wrote: any other byte in any kind of file is found by what reads it, and named."""

import json
import os
import random
import shutil

import numpy as np
import pandas as pd
import pytest

from weight_atlas.artifacts import read_array, read_json, read_table, write_array, write_json, write_table
from weight_atlas.digest_records import LOST, DigestRecords, check
from weight_atlas.errors import AtlasError
from weight_atlas.figures.style import save_figure
from weight_atlas.tokens.corpora import document_batches
from weight_atlas.weights.part_file import part_file, read_part_file

FLIPS = int(os.environ.get("WEIGHT_ATLAS_FLIPS", "200"))
READERS = {
    "table.parquet": read_table,
    "parts.parquet": lambda path: list(read_part_file(path)),
    "documents.parquet": lambda path: list(document_batches(path)),
    "table.csv": read_table,
    "table.jsonl": read_table,
    "value.json": read_json,
    "array.npy": read_array,
    "figure.png": check,
    "page.md": check,
    "data": check,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of results with a file of every kind, recorded."""
    from matplotlib.figure import Figure

    results = tmp_path_factory.mktemp("results")
    folder, source = results / "analysis", np.random.default_rng(0)
    table = pd.DataFrame({"id": [f"t{number}" for number in range(200)], "x": source.normal(size=200)})
    for suffix in ("parquet", "csv", "jsonl"):
        write_table(folder / f"table.{suffix}", table)
    write_table(folder / "documents.parquet", pd.DataFrame({"text": table["id"], "group": ""}))
    with part_file(folder / "parts.parquet", ("values",)) as file:
        for _ in range(3):
            file.write(pd.DataFrame({"id": ["a", "b"], "values": [source.normal(size=50) for _ in range(2)]}))
    write_json(folder / "value.json", {"x": source.normal(size=20)})
    write_array(folder / "array.npy", source.normal(size=100))
    figure = Figure()
    figure.subplots().plot([1, 2])
    save_figure(folder / "figure.png", figure)
    (folder / "page.md").write_text("# A page\n" * 20)
    (folder / "data").mkdir()
    for number in range(3):
        (folder / "data" / f"{number}.js").write_text(f"chunk({number});" * 20)
    records = DigestRecords(results)
    for path in folder.iterdir():
        records.write(path, "made from this")
    return folder


def test_what_is_whole_is_read(written):
    for name, read in READERS.items():
        read(written / name)
    assert {path.name for path in written.iterdir()} == READERS.keys()


def test_no_flipped_bit_and_no_truncation_is_silent(written, tmp_path):
    """The time of the file stays, so that nothing but its bytes shows it; every fifth is a truncation."""
    chosen, results = random.Random(0), tmp_path / "results"
    shutil.copytree(written.parent, results)
    for number in range(FLIPS):
        name = list(READERS)[number % len(READERS)]
        path = results / "analysis" / name
        file = path / f"{number % 3}.js" if path.is_dir() else path
        whole, times = file.read_bytes(), file.stat()
        place = chosen.randrange(len(whole))
        bit = 1 << chosen.randrange(8)
        cut = number % 5 == 0
        file.write_bytes(whole[:place] if cut else whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(AtlasError, match="not what its step wrote") as error:
            READERS[name](path)
        assert error.value.where == str(path) and f"rm -r {path}" in error.value.remedy
        file.write_bytes(whole)


def test_no_flipped_bit_of_a_record_is_silent(written, tmp_path):
    """Of what a record says; blanks, and letters whose case does not count, are none of it."""
    chosen, results = random.Random(0), tmp_path / "results"
    shutil.copytree(written.parent, results)
    path = results / "analysis/table.csv"
    record = results / ".weight-atlas/records/analysis/table.csv.json"
    whole = record.read_bytes()
    for _ in range(FLIPS):
        place, bit = chosen.randrange(len(whole)), 1 << chosen.randrange(8)
        flipped = whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
        record.write_bytes(flipped)
        try:
            same = json.loads(flipped) == json.loads(whole)
        except ValueError:
            same = False
        if not same:
            with pytest.raises(AtlasError, match="record of a file's digest is damaged") as error:
                read_table(path)
            assert str(record) in error.value.remedy and str(path) in error.value.remedy


@pytest.mark.parametrize("lost", ["records/analysis/table.csv.json", "records/analysis", "records"])
def test_a_lost_record_is_named_by_every_reader(written, tmp_path, lost):
    results = tmp_path / "results"
    shutil.copytree(written.parent, results)
    path, record = results / "analysis/table.csv", results / ".weight-atlas/records/analysis/table.csv.json"
    gone = results / ".weight-atlas" / lost
    gone.unlink() if gone.is_file() else shutil.rmtree(gone)
    for read in (read_table, check, DigestRecords(results).of):
        with pytest.raises(AtlasError, match=LOST) as error:
            read(path)
        assert error.value.where == str(record) and error.value.remedy.startswith(f"make both again: rm -rf {path} ")
    assert str(path) in DigestRecords(results).changed()
    path.unlink()
    write_table(path, pd.DataFrame({"x": [1.0]}))  # as the step does when the same command runs
    assert read_table(path).x.tolist() == [1.0] and DigestRecords(results).of(path) is None
    DigestRecords(results).write(path, "made from this")
    assert check(path)


def test_all_inputs_without_their_records_are_in_one_message(written, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(written.parent, results)
    paths = [results / "analysis" / name for name in READERS]
    damaged, *lost = (results / f".weight-atlas/records/analysis/{path.name}.json" for path in paths[:3])
    damaged.write_text("{}")
    for record in lost:
        record.unlink()
    with pytest.raises(AtlasError, match=f"digest is damaged; {LOST}") as error:
        DigestRecords(results).checked(paths)
    assert error.value.where == ", ".join(map(str, (damaged, *lost)))
    assert all(f"{path} " in error.value.remedy for path in paths[:3])


def test_what_was_never_recorded_and_what_has_no_sign_of_its_record_is_as_before(written, tmp_path):
    """Results of versions before there were records, and before there were signs of them."""
    results = tmp_path / "results"
    shutil.copytree(written.parent, results)
    shutil.rmtree(results / ".weight-atlas/recorded")
    assert check(results / "analysis/table.csv") and DigestRecords(results).changed() == []
    shutil.rmtree(results / ".weight-atlas/records")
    assert not check(results / "analysis/table.csv") and DigestRecords(results).changed() == []
    assert DigestRecords(results).checked([results / "analysis/table.csv"])


def test_pages_of_parquet_have_checksums_also_elsewhere(written, tmp_path):
    """Where no record goes with a file, a flip is found, or is in what no number is read of."""
    chosen, silent = random.Random(1), 0
    whole = (written / "table.parquet").read_bytes()
    expected = read_table(written / "table.parquet")
    for number in range(100):
        path = tmp_path / f"{number}.parquet"
        place = chosen.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chosen.randrange(8)]) + whole[place + 1 :])
        try:
            silent += not read_table(path).equals(expected)
        except AtlasError:
            continue
    assert silent <= 1  # in the footer, which has no checksum


def test_a_file_that_is_written_anew_has_no_record(written, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(written.parent, results)
    write_json(results / "analysis/value.json", {})
    assert read_json(results / "analysis/value.json") == {}
    assert DigestRecords(results).of(results / "analysis/value.json") is None
    (results / "analysis/table.csv").unlink()
    with pytest.raises(AtlasError, match="a table is missing"):
        read_table(results / "analysis/table.csv")


def test_a_file_of_a_folder_too_many_or_too_few_is_found(written, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(written.parent, results)
    (results / "analysis/data/.snakemake_timestamp").touch()
    check(results / "analysis/data")
    (results / "analysis/data/more.js").touch()
    with pytest.raises(AtlasError, match="not what its step wrote"):
        check(results / "analysis/data")
    (results / "analysis/data/more.js").unlink()
    (results / "analysis/data/0.js").unlink()
    with pytest.raises(AtlasError, match="not what its step wrote"):
        check(results / "analysis/data")


def test_links_and_what_lies_elsewhere_have_no_record(written, tmp_path):
    records = DigestRecords(tmp_path / "results")
    (tmp_path / "results/x").mkdir(parents=True)
    (tmp_path / "file.csv").write_text("a\n1\n")
    (tmp_path / "results/x/link.csv").symlink_to(tmp_path / "file.csv")
    for path in (tmp_path / "file.csv", tmp_path / "results/x/link.csv", tmp_path / "results"):
        records.write(path, "made from this")
        assert records.of(path) is None
    assert not (tmp_path / "results/.weight-atlas").exists()


def test_a_large_file_of_a_user_is_known_by_its_state(tmp_path, monkeypatch):
    records, path = DigestRecords(tmp_path / "results"), tmp_path / "model.safetensors"
    path.write_bytes(b"1234")
    small = records.checked([path])
    os.utime(path)
    assert records.checked([path]) == small
    monkeypatch.setattr("weight_atlas.digest_records.LARGE", 2)
    large = records.checked([path])
    os.utime(path, (1, 1))
    assert records.checked([path]) != large


def test_what_was_changed_or_put_back_is_named_without_reading_the_rest(written, tmp_path, monkeypatch):
    results, records = tmp_path / "results", DigestRecords(tmp_path / "results")
    shutil.copytree(written.parent, results)
    assert records.changed() == []
    (results / "analysis/table.csv").write_text("x\n1\n")
    page = results / "analysis/page.md"
    page.write_text("# An older page\n")
    os.utime(page, (1, 1))
    os.utime(results / "analysis/table.parquet")
    (results / "analysis/table.jsonl").unlink()
    expected = [str(page), str(results / "analysis/table.csv")]
    assert records.changed() == expected
    digested = []
    monkeypatch.setattr("weight_atlas.digest_records.digests", lambda path: digested.append(str(path)) or {})
    assert records.changed() == expected and digested == expected  # what was only touched is known to be whole by now
