"""Artifacts are atomic, deterministic and free of what JSON lacks."""

import json
import os
import stat

import numpy as np
import pandas as pd
import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.run_lock import hold
from weight_atlas.tables import atomic, plain, read_json, read_table, write_json, write_table, write_text

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


def test_a_run_lock_is_exclusive_and_needs_no_cleaning(tmp_path):
    descriptor = hold(tmp_path / ".snakemake/lock")
    with pytest.raises(AtlasError, match="another run"):
        hold(tmp_path / ".snakemake/lock")
    os.close(descriptor)
    os.close(hold(tmp_path / ".snakemake/lock"))
