"""Rules of findings and what they say."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from weight_atlas import metrics
from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.errors import AtlasError
from weight_atlas.findings.gather import COLUMNS, findings_of, findings_table, gathered
from weight_atlas.findings.judge import judged
from weight_atlas.findings.rules import FIELDS, FOLDER, PARTS, Rule, fields_of, files, read_rules, rules
from weight_atlas.findings.views import VIEWS
from weight_atlas.not_applicable import write_not_applicable


def test_every_file_of_rules_is_read_and_every_rule_names_what_there_is():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(PARTS)
    for name, rule in rules().items():
        table = metrics.of(rule.table)
        words = dict.fromkeys([*table.words, *table.keys.values()], "")
        row = {column: words.get(column, 1.0) for column in table.columns - set(table.lists)}
        lists = {column: [np.ones(1)] for column in table.lists}
        rows = pd.DataFrame([{**row, **({"readable": True} if "readable" in row else {})}]).assign(**lists)
        known = set(VIEWS[rule.view](rows).columns if rule.view else rows.columns)
        assert (rule.value in table.by_column) != bool(rule.number), f"{name}: what its number is called, once"
        assert (fields_of(rule.each) | fields_of(rule.text)) - known - FIELDS == set(), name
        judged(name, rule, rows)


def test_the_files_that_rules_read_are_those_of_their_tables():
    assert {"weight_statistics/{model}.csv", "tensor_inventory/{model}.parquet"} <= files()


RULE = {"table": "heavy_tail", "grade": "info", "when": "alpha > 6", "value": "alpha", "text": "{count}", "remedy": "x"}
TAILS = pd.DataFrame({"id": list("abcd"), "alpha": [7.0, math.nan, 9.0, 5.0], "alpha_null": [3.5, 3.5, 3.0, 2.0]})


def test_a_finding_is_one_record_of_all_its_rows_the_gravest_first():
    text = "{count} of {looked_at}: {places}; {value} beside {null}, {effect} times, {alpha_null}"
    found = judged("r", Rule(**{**RULE, "text": text}), TAILS)
    assert found["places"] == ["c", "a"] and found["evidence"]["rows"] == [2, 0] and found["place"] == "c"
    assert (found["count"], found["looked_at"]) == (2, 4)
    assert (found["value"], found["null_value"], found["effect"]) == (9.0, 3.0, 3.0)
    assert found["text"] == "2 of 4: c, a; 9.00 beside 3.00, 3 times, 3.00"


def test_rows_that_are_explained_or_not_looked_at_are_no_finding():
    assert judged("r", Rule(**RULE), TAILS, explained={"c"})["places"] == ["a"]
    assert judged("r", Rule(**RULE, of="alpha < 9"), TAILS)["looked_at"] == 2
    assert judged("r", Rule(**RULE), TAILS, explained={"a", "c"}) is None
    assert judged("r", Rule(**RULE), TAILS[:0]) is None
    assert judged("r", Rule(**{**RULE, "when": "alpha > 2 * @looked_at"}), TAILS)["places"] == ["c"]
    assert judged("r", Rule(**{**RULE, "worst": "smallest"}), TAILS)["place"] == "a"


def test_many_places_are_named_in_part_and_listed_whole():
    many = pd.DataFrame({"id": [f"t{n}" for n in range(1500)], "alpha": 7.0, "alpha_null": 3.0})
    found = judged("r", Rule(**{**RULE, "text": "{places}"}), many)
    assert found["text"] == "t0, t1, t2 and 1,497 more" and len(found["places"]) == 1500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "heavy_tails"}, "no table is called heavy_tails"),
        ({"grade": "grave"}, "r.grade"),
        ({"txet": "x"}, "r.txet: Extra inputs"),
        ({"text": "{alfa}"}, "heavy_tail has no column alfa"),
        ({"each": "{alfa}"}, "heavy_tail has no column alfa"),
        ({"unless": ["s"]}, "no rule before it is called s"),
        ({"when": ""}, "r.when"),
    ],
)
def test_what_a_rule_may_not_say(tmp_path, change, message):
    path = tmp_path / "part.yaml"
    path.write_text(pd.Series({"r": {**RULE, **change}}).to_json())
    with pytest.raises(AtlasError, match=re.escape(message)):
        read_rules(path)


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ({}, None),
        ({"rows_identical": 1}, "duplicate_rows"),
        ({"rows_scaled": 2}, "duplicate_rows"),
        ({"rows_opposite": 1, "role": "W_E"}, None),
        ({"rows_identical": 5, "cols": 4}, None),
        ({"zeros_share": 0.5}, "sparse_matrix"),
    ],
)
def test_repeated_rows_and_many_zeros(numbers, name):
    row = {"id": "w", "role": "W_up", "rows": 16, "cols": 16, "rows_identical": 0, "rows_opposite": 0, "rows_scaled": 0}
    table = pd.DataFrame([{**row, "zeros_share": 0.0, "two_four_share": 0.0, **numbers}])
    assert [each["id"] for each in findings_of({"sparsity": table})] == ([name] if name else [])


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ({}, None),
        ({"untrained": 40}, "untrained_tokens"),
        ({"untrained": 1}, "some_untrained_tokens"),
        ({"tokens": 900}, "rows_beyond_tokenizer"),
        ({"tokens": 0}, None),
        ({"tokens": 1001}, "rows_missing"),
    ],
)
def test_rows_of_embeddings_beside_the_tokenizer(numbers, name):
    row = {"id": "W_E", "rows": 1000, "tokens": 1000, "untrained": 0, "zero": 0, "identical": 0, "near_identical": 0}
    row |= dict.fromkeys(("low_norm", "initial", "like_unused"), 0)
    found = findings_of({"untrained_rows.matrices": pd.DataFrame([{**row, **numbers}])})
    assert [each["id"] for each in found] == ([name] if name else [])


# What analyses state, and files.


def test_findings_of_artifacts_are_gathered_with_their_evidence(tmp_path):
    tails = {"status": "ok", "reading": "under-trained", "alpha": 9.0, "alpha_error": 0.1, "alpha_null": 3.0}
    noise = {"mp_spikes": 0, "mp_spike_energy": 0.0, "mp_distance": 0.5, "eigenvalues": 64}
    place = {"id": ["a"], "role": "W_up", "stack": "decoder", "layer": 0}
    write_table(tmp_path / "heavy_tail/m.csv", pd.DataFrame({**place, **tails, **noise}))
    stated = [{"grade": "critical", "text": "t", "place": "p", "value": 3.0, "null_value": 1.5, "remedy": "r"}]
    write_json(tmp_path / "super_weights/m.json", {"findings": stated})
    write_not_applicable(tmp_path / "effective_rank/m.csv", "no matrices")
    write_json(tmp_path / "token_counts/m/text.json", {"tokens": 3})
    found = gathered(sorted(path for path in tmp_path.rglob("*") if path.is_file()), tmp_path)
    assert [each["id"] for each in found] == ["super_weights.1", "under_trained"]
    assert found[0]["effect"] == 2 and found[0]["places"] == ["p"] and found[0]["remedy"] == "r"
    assert found[1]["evidence"] == {"file": "heavy_tail/m.csv", "rows": [0]}
    table = findings_table(found)
    assert list(table.columns) == list(COLUMNS) and metrics.of("findings").columns == set(COLUMNS)
    write_table(tmp_path / "findings/m.csv", table)
    assert read_table(tmp_path / "findings/m.csv").evidence_row.tolist() == [0, 0]
    write_json(tmp_path / "findings/m.json", {"findings": found})
    assert read_json(tmp_path / "findings/m.json")["findings"][1]["null_value"] == 3.0


def test_no_findings_are_a_table_without_rows():
    assert list(findings_table([]).columns) == list(COLUMNS)


def test_names_of_others_stay_text():
    evil = pd.DataFrame({"id": ["{alpha}<b>|"], "alpha": [7.0], "alpha_null": [3.0]})
    assert judged("r", Rule(**{**RULE, "text": "{places}"}), evil)["text"] == "{alpha}<b>|"
