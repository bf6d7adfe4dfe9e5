"""Counts, kinds and patterns of super weights over models, beside what the published coordinates show by eye."""

import math
import runpy
from pathlib import Path

import pandas as pd
import pytest
from live_models import drawn

from weight_atlas.artifacts import read_table, write_json
from weight_atlas.figures.super_weight_patterns import patterns
from weight_atlas.not_applicable import write_not_applicable
from weight_atlas.super_weights.patterns import models_table, weights_table

ROOT = Path(__file__).parents[2]


def record(layer, row, column, role="W_down", verdict="critical", harm=2.0, expert=None, component=""):
    return {
        "layer": layer, "row": row, "column": column, "role": role, "verdict": verdict, "delta_nll": harm,
        "expert_id": expert, "component": component or ("mlp.down_proj" if role == "W_down" else ""),
    }  # fmt: skip


def verdict_of(*records, verdict="critical", **more):
    return {"verdict": verdict, "super_weights": list(records), "joint": None, "sets": [], **more}


ABOUT = {"architecture": "LlamaForCausalLM", "family": "llama", "n_layers": 32}
# As published (arXiv 2411.07191): one neuron of Phi-3 writes three channels in two layers; Llama-30B writes one channel
# from two neurons of one layer and from a later one; Mistral has one weight.
PHI = verdict_of(*(record(layer, row, col) for layer, col in ((2, 808), (4, 2723)) for row in (525, 1693, 1113)))
LLAMA = verdict_of(record(3, 5633, 12817), record(3, 5633, 17439), record(10, 5633, 14386))
MISTRAL = verdict_of(record(1, 2070, 7310), record(5, 3, 4, verdict="inert", harm=0.0))


def test_patterns_of_published_super_weights():
    phi = weights_table("phi", PHI, ABOUT)
    assert phi.same_neuron.tolist() == [2] * 6 and phi.same_channel.tolist() == [1] * 6
    assert set(phi.pattern) == {"one neuron and one channel"}
    llama = weights_table("llama", LLAMA, {**ABOUT, "n_layers": 60})
    assert llama.same_channel.tolist() == [2, 2, 2] and llama.same_neuron.tolist() == [0, 0, 0]
    assert llama.depth.tolist() == pytest.approx([3.5 / 60, 3.5 / 60, 10.5 / 60]) and set(llama.phase) == {"early"}
    mistral = weights_table("mistral", MISTRAL, ABOUT)
    assert mistral.pattern[0] == "alone" and mistral.pattern.isna()[1] and mistral.same_channel.isna()[1]


def test_models_are_counted_and_told():
    verdicts = {"phi": PHI, "llama": LLAMA, "mistral": MISTRAL}
    about = {"phi": {**ABOUT, "architecture": "Phi3ForCausalLM"}, "llama": ABOUT, "mistral": ABOUT}
    tables = {name: weights_table(name, verdict, about[name]) for name, verdict in verdicts.items()}
    models = models_table(tables, verdicts, about, {"mamba": "no MLP output projection"})
    assert models.model.tolist() == ["llama", "mistral", "phi", "mamba"]
    rows = models.set_index("model")
    assert rows.super_weights.tolist()[:3] == [3, 1, 6] and rows.inert.tolist()[:3] == [0, 1, 0]
    assert rows.pattern["phi"] == "one neuron writes several channels; several weights share a channel"
    assert rows.pattern["llama"] == "several weights share a channel" and pd.isna(rows.pattern["mistral"])
    assert rows.channels.tolist()[:3] == [1, 1, 3] and rows.neurons.tolist()[:3] == [3, 1, 2]
    assert rows.note["mamba"] == "no MLP output projection" and pd.isna(rows.super_weights["mamba"])


def test_every_role_has_its_channel_and_depth():
    verdict = verdict_of(
        record(0, 3, 7, "W_O"), record(15, 8, 3, "W_Q"), record(31, 9, 3, "W_gate", expert=2), record(-1, 5, 3, "W_E"),
        record(-1, 5, 3, "W_U"), record(20, 3, 0, "norm"), record(20, 3, 0, "W_down.bias"),
        record(20, 4, 0, "W_Q.bias"), record(31, 3, 9, expert=2, harm=math.nan), joint={"delta_nll": 4.5}, sets=[{}],
    )  # fmt: skip
    table = weights_table("m", verdict, ABOUT)
    assert table.channel.tolist() == [3, 3, 3, 3, 3, 3, 3, pd.NA, 3]
    assert table.same_channel.dropna().tolist() == [7] * 8
    assert table.neuron.dropna().tolist() == [9, 9]
    assert table.phase.tolist() == ["early", "middle", "late", "before", "after", "middle", "middle", "middle", "late"]
    assert table.depth[3] == 0 and table.depth[4] == 1 and table.layer.isna()[3]
    (row,) = models_table({"m": table}, {"m": verdict}, {"m": ABOUT}, {}).itertuples()
    assert (row.w_down, row.attention, row.gate_up, row.embeddings, row.norms_biases) == (1, 2, 1, 2, 3)
    assert (row.in_experts, row.early, row.middle, row.late, row.outside) == (2, 1, 4, 2, 2)
    assert row.joint_delta_nll == 4.5 and row.sets == 1
    assert row.roles.startswith("1 W_down, 1 W_O, 1 W_Q, 1 W_gate")


def test_the_figure_names_models_and_counts():
    verdicts = {"phi": PHI, "none": verdict_of(verdict="none found")}
    tables = {name: weights_table(name, verdict, ABOUT) for name, verdict in verdicts.items()}
    models = models_table(tables, verdicts, dict.fromkeys(verdicts, ABOUT), {"mamba": "no MLP"})
    each = pd.concat(tables.values(), ignore_index=True)
    told = drawn(patterns(models, each))
    assert "6: 6 W_down" in told and "none found" in told and "mamba" not in told
    assert "No model" in drawn(patterns(models[models.note.notna()], each))


def test_the_step_writes_both_tables_and_says_who_is_left_out(tmp_path):
    for name, verdict in (("phi", PHI), ("none", verdict_of(verdict="none found"))):
        write_json(tmp_path / f"verdicts/{name}.json", verdict)
        write_json(tmp_path / f"about/{name}.json", {"configuration": ABOUT})
    write_not_applicable(tmp_path / "verdicts/mamba.json", "no MLP output projection")
    write_json(tmp_path / "about/mamba.json", {"configuration": {}})
    names = ("phi", "none", "mamba")
    main = runpy.run_path(str(ROOT / "scripts/super_weight_patterns.py"))["main"]
    main(
        [tmp_path / f"verdicts/{name}.json" for name in names],
        [tmp_path / f"about/{name}.json" for name in names],
        table=tmp_path / "models.csv", weights=tmp_path / "weights.csv", figure=tmp_path / "models.png",
    )  # fmt: skip
    models = read_table(tmp_path / "models.csv").set_index("model")
    assert models.super_weights["phi"] == 6 and models.super_weights["none"] == 0
    assert models.note["mamba"] == "no MLP output projection"
    assert len(read_table(tmp_path / "weights.csv")) == 6
