"""Artifacts are atomic, deterministic and free of what JSON lacks."""

import errno
import json
import os
import stat
import subprocess

import numpy as np
import pandas as pd
import pytest

from weight_atlas.artifacts import atomic, plain, read_json, read_table, write_json, write_table, write_text
from weight_atlas.errors import AtlasError
from weight_atlas.figures.style import save_figure
from weight_atlas.tokens.corpora import document_batches
from weight_atlas.weights.part_file import read_part_file

TABLE = pd.DataFrame(
    {
        "name": ["a", "b", "c"],
        "layer": pd.array([0, None, 2], dtype="Int64"),
        "value": [0.1, float("nan"), 1e-300],
    }
)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_round_trip_and_same_bytes(tmp_path, suffix):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_table(first, TABLE)
    write_table(second, TABLE.copy())
    assert first.read_bytes() == second.read_bytes()
    again = read_table(first)
    assert list(again.columns) == list(TABLE.columns)
    np.testing.assert_array_equal(again.value, TABLE.value)
    assert again.layer.isna().tolist() == [False, True, False]


def test_lists_survive_parquet(tmp_path):
    table = pd.DataFrame({"sigma": [np.array([2.0, 1.0]), np.array([])]})
    write_table(tmp_path / "a.parquet", table)
    assert [list(values) for values in read_table(tmp_path / "a.parquet").sigma] == [[2.0, 1.0], []]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_string_survives(tmp_path, suffix):
    strings = ["\r", "a\rb", "\n", "\r\n", 'say "x"', '"', ",", " | ", " lead", "trail ", "\t", "NA", "null", "nan",
               "-", "\x00", "é漢\u2028\x85", "'"]  # fmt: skip
    table = pd.DataFrame({"text": strings, "number": np.arange(len(strings)) / 3})
    for suffix_path in (tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"):
        write_table(suffix_path, table)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    again = read_table(tmp_path / f"a{suffix}")
    assert again.text.tolist() == strings
    np.testing.assert_array_equal(again.number, table.number)


def test_csv_has_lf_line_ends_and_json_for_lists(tmp_path):
    write_table(tmp_path / "a.csv", pd.DataFrame({"a": [["x | y", "\r", 'q"'], []], "b": ["\r\n", ""]}))
    text = (tmp_path / "a.csv").read_bytes().decode()
    cell = '"[""x | y"", ""\\r"", ""q\\""""]"'
    assert text == f'a,b\n{cell},"\r\n"\n[],\n'
    again = read_table(tmp_path / "a.csv")
    assert json.loads(again.a[0]) == ["x | y", "\r", 'q"'] and again.b.isna().tolist() == [False, True]


def test_json_is_sorted_and_valid(tmp_path):
    write_json(
        tmp_path / "a.json", {"b": np.float32(0.5), "a": [float("inf"), np.nan, pd.NA, np.int64(3)], 1: np.bool_(True)}
    )
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"a": [None, None, None, 3], "b": 0.5, "1": True}
    assert text.index('"a"') < text.index('"b"')
    assert read_json(tmp_path / "a.json")["b"] == 0.5


def test_plain_refuses_what_it_does_not_know():
    with pytest.raises(TypeError):
        plain(object())


def test_a_failure_leaves_the_old_file_and_no_leftover(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_files_are_readable_as_the_umask_says(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask


def test_missing_and_broken_files_are_atlas_errors(tmp_path):
    with pytest.raises(AtlasError, match="missing"):
        read_table(tmp_path / "no.csv")
    with pytest.raises(AtlasError, match="missing"):
        read_json(tmp_path / "no.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(AtlasError, match="not valid JSON"):
        read_json(tmp_path / "bad.json")
    for endless in ("9" * 5000, "[" * 100_000):  # more digits, and deeper, than Python reads
        (tmp_path / "endless.json").write_text(endless)
        with pytest.raises(AtlasError, match="not valid JSON"):
            read_json(tmp_path / "endless.json")


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a device of 64 KB that is full but for two blocks."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    (folder / "filler").write_bytes(b"x" * 56 * 1024)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_message_and_leaves_no_partial_file(full_disk):
    from matplotlib.figure import Figure

    table = pd.DataFrame({"value": np.random.default_rng(0).random(5000)})
    figure = Figure()
    figure.subplots().plot(table.value[:50])
    writes = {
        "t.parquet": write_table, "t.csv": write_table, "t.jsonl": write_table,
        "t.json": lambda path, table: write_json(path, table.value.tolist()),
        "t.txt": lambda path, table: write_text(path, str(table.value.tolist())),
        "t.png": lambda path, table: save_figure(path, figure),
    }  # fmt: skip
    for name, write in writes.items():
        for path in (full_disk / name, full_disk / "a" / "folder" / name):
            with pytest.raises(AtlasError, match="no space left on the device") as error:
                write(path, table)
            assert str(path) in str(error.value) and "free some room" in str(error.value)
    assert [path.name for path in full_disk.rglob("*") if path.is_file()] == ["filler"]
    write_table(full_disk / "small.csv", TABLE)


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EDQUOT, "quota"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied"), (errno.EIO, "device")],
)
def test_what_else_a_file_system_refuses_is_said(tmp_path, number, said):
    with pytest.raises(AtlasError, match=said) as error, atomic(tmp_path / "a.csv"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "a.csv") in str(error.value)


def test_other_errors_while_writing_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "a.csv"):
        (tmp_path / "nowhere").read_text()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("left", [0, 0.5])
def test_a_truncated_table_is_to_be_made_again(tmp_path, suffix, left):
    path = tmp_path / f"a{suffix}"
    write_table(path, TABLE.assign(name='quoted, "text"'))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * left)])
    if (suffix, left) == (".jsonl", 0):
        assert read_table(path).empty  # a table of no rows is written so
        return
    with pytest.raises(AtlasError, match="cannot be read") as error:
        read_table(path)
    assert str(path) in str(error.value) and "make it again" in str(error.value)


@pytest.mark.parametrize("read", [read_part_file, document_batches], ids=lambda read: read.__name__)
def test_a_truncated_table_that_is_read_in_parts_is_to_be_made_again(tmp_path, read):
    path = tmp_path / "a.parquet"
    write_table(path, pd.DataFrame({"text": [f"text {number}" for number in range(500)], "group": ""}))
    assert list(read(path))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AtlasError, match="make it again"):
        list(read(path))
    path.unlink()
    with pytest.raises(AtlasError, match="a table is missing"):
        list(read(path))
