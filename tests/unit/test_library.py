"""`import weight_atlas` is light, and gives the numbers of the steps."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from steps import rough_figures, step

import weight_atlas as wa
from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.families.pieces import load_piece
from weight_atlas.workflow.provenance import closure

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "src/weight_atlas"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
SUPER_WEIGHT = [{"layer": 1, "row": 7, "col": 11}]


def test_importing_the_package_loads_nothing_else():
    code = "import sys, importlib; before = set(sys.modules); import weight_atlas; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["weight_atlas"]


def test_the_api_is_no_part_of_the_code_of_a_step():
    """Else a change of any module would run every step again."""
    assert "weight_atlas/api/__init__.py" not in closure(ROOT / "scripts/effective_rank.py", LIBRARY)


def test_a_model_is_opened_by_a_path_too():
    folder = Path(wa.__file__).with_name("data") / "demo/model"
    assert wa.open(folder).source == wa.open(str(folder)).source == str(folder)


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"threads": -2}, {"device": "cuda:77"}, {"device": "gpu"}])
def test_threads_and_devices_that_cannot_compute_are_refused_at_once(wrong):
    with pytest.raises(wa.AtlasError, match=r"threads compute nothing|torch cannot compute on"):
        wa.open("bundled:demo", **wrong)


def test_a_kind_of_change_that_there_is_not_is_refused():
    model, corpus = wa.open("bundled:demo"), pd.DataFrame({"text": ["a text"]})
    with pytest.raises(wa.AtlasError, match=r"(?s)unknown kind of change 'zer'.*did you mean 'zero'"):
        model.ablate({"zer": {}}, corpus)


def test_a_corpus_without_texts_is_refused():
    with pytest.raises(wa.AtlasError, match="no column text"):
        wa.open("bundled:demo").token_counts(pd.DataFrame({"document": ["a"]}))


def test_all_public_names_are_there_and_typed():
    stub = (LIBRARY / "__init__.pyi").read_text()
    for name in wa.__all__:
        assert getattr(wa, name) is not None
        assert re.search(rf"\b{name}\b", stub), name
    assert wa.__version__ == version("weight-atlas")
    assert (LIBRARY / "py.typed").is_file()
    with pytest.raises(AttributeError, match="opne"):
        wa.opne  # noqa: B018


@pytest.fixture(scope="module", autouse=True)
def unseen_figures():
    with rough_figures():
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the steps write for the bundled model and a text; --KEY FILE for each that another step reads."""
    folder = tmp_path_factory.mktemp("steps")
    text = "\n\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("m*.md")))
    write_table(folder / "text.parquet", pd.DataFrame({"document": ["a"], "text": [text], "group": [""]}))
    manifest, tensors, part = folder / "manifest.json", folder / "tensors.parquet", folder / "part.parquet"
    step("fetch_checkpoint", "--manifest", manifest, "--source", "bundled:demo")
    step("tensor_inventory", manifest, "--table", tensors)
    step("singular_values_part", manifest, tensors, "--part", part, "--scatteritem", "1-of-1")
    step("singular_values", "--parts", part, "--inventory", tensors, "--table", folder / "spectra.parquet")
    untrained = folder / "untrained.csv"
    step(
        "untrained_rows",
        manifest,
        tensors,
        "--table",
        untrained,
        "--matrices",
        folder / "untrained-matrices.csv",
        "--figure",
        folder / "untrained.png",
    )
    step("token_classes", manifest, tensors, untrained, "--table", folder / "classes.parquet")
    step("neuron_scan", manifest, tensors, folder / "classes.parquet", "--table", folder / "neurons.parquet")
    step(
        "variant_perplexity", manifest, folder / "text.parquet", "--inventory", tensors,
        "--windows", folder / "windows.parquet", "--description", folder / "about.json", "--ablation", "ablation",
        "--corpus", "text", "--window", 128, "--tokens", 1024,
        "--changes", '{"zero": {}, "weights": [{"layer": 1, "row": 7, "col": 11}]}',
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def model():
    return wa.open("bundled:demo")


@pytest.mark.slow
def test_tables_of_the_api_are_those_of_the_steps(files, model):
    neurons = model.neurons()
    made = {
        "tensors": model.inventory, "spectra": model.spectra(), "classes": model.token_classes(),
        "neurons": neurons.drop(columns="label"),
    }  # fmt: skip
    for name, table in made.items():
        write_table(files / f"api-{name}.parquet", table)
        pd.testing.assert_frame_equal(
            read_table(files / f"api-{name}.parquet"), read_table(files / f"{name}.parquet"), check_exact=True
        )
    assert set(neurons["label"]) <= {"prediction", "suppression", "partition", "entropy", "unclear"}


@pytest.mark.slow
def test_perplexity_of_the_api_is_that_of_the_steps_windows(files, model):
    corpus = read_table(files / "text.parquet")
    table = model.ablate({"zero": {}, "weights": SUPER_WEIGHT}, corpus, window=128, tokens=1024)
    windows = read_table(files / "windows.parquet")
    assert list(table["variant"]) == ["baseline", "ablation: zeroed"]
    assert table["perplexity"][1] == pytest.approx(np.exp(windows["nll"].sum() / windows["tokens"].sum()), rel=1e-9)
    assert table["perplexity"][0] == model.perplexity(corpus, window=128, tokens=1024)["perplexity"][0]
    with pytest.raises(wa.AtlasError, match="there is no layer 9"):
        model.ablate({"zero": {}, "weights": [{"layer": 9, "row": 7, "col": 11}]}, corpus)


@pytest.mark.slow
def test_errors_of_quantization_are_those_of_rounding_to_nearest(model):
    """Symmetric int4 with a scale for each row, spelled out."""
    choice = {"formats": ["int4"], "granularities": ["channel"], "symmetric": True, "clip": None}
    errors = model.quantization_error(weights=SUPER_WEIGHT, matrices="W_down", **choice)
    plain, sparing = (rows for _, rows in errors.groupby("variant", sort=False))
    row = next(row for row in model.inventory.itertuples() if row.role == "W_down" and row.layer == 1)
    exact = load_piece(model.checkpoint, row).double().numpy()
    scale = np.abs(exact).max(axis=1, keepdims=True) / 7
    rounded = np.round(exact / scale).clip(-8, 7) * scale
    expected = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
    assert plain.set_index("layer")["relative_error"][1] == pytest.approx(expected, rel=1e-4)
    rounded[7, 11] = np.float16(exact[7, 11])
    expected = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
    assert sparing.set_index("layer")["relative_error"][1] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(wa.AtlasError, match="there is no layer 9"):
        model.quantization_error(weights=[{"layer": 9, "row": 7, "col": 11}])


@pytest.fixture(scope="module")
def found(files, model):
    """The super weights, and the artifact that later steps read."""
    survey = model.super_weights()
    write_json(files / "super_weights.json", survey.artifact)
    return survey


@pytest.mark.slow
def test_tasks_of_the_api_are_those_of_the_steps(files, model):
    text, items, definition = files / "text.parquet", files / "items.jsonl", LIBRARY / "data/demo/tasks/order.yaml"
    step("bundled_tasks", text, "--table", items, "--bundled", "order", "--items", 20)
    step(
        "task_requests", files / "manifest.json", definition, items, "--requests", files / "requests.parquet",
        "--description", files / "task.json", "--task", "order", "--limit", 15,
    )  # fmt: skip
    step(
        "ablation_eval", files / "manifest.json", files / "requests.parquet", files / "task.json",
        "--inventory", files / "tensors.parquet", "--definition", definition, "--data", items,
        "--scores", files / "scores.json", "--documents", files / "documents.parquet", "--ablation", "ablation",
        "--changes", json.dumps({"zero": {}, "weights": SUPER_WEIGHT}),
    )  # fmt: skip
    changes = {"zero": {}, "weights": SUPER_WEIGHT}
    made = model.evaluate("bundled:order", changes, corpus=read_table(text), items=20, limit=15)
    documents = made.items[made.items.variant != "baseline"].reset_index(drop=True)
    pd.testing.assert_frame_equal(documents, read_table(files / "documents.parquet"), check_exact=True)
    scores = made.scores.pivot(index="variant", columns="metric", values="value")["acc,none"]
    (variant,) = json.loads((files / "scores.json").read_text())["variants"]
    assert scores["ablation: zeroed"] == variant["results"]["order"]["acc,none"] < scores["baseline"]
    assert made.chance == {"order": 0.25}
    with pytest.raises(wa.AtlasError, match="made from a corpus"):
        model.evaluate("bundled:order")


@pytest.mark.slow
def test_super_activations_of_the_api_are_those_of_the_step(files, model, found):
    tables = {"places": files / "places.csv", "sinks": files / "sinks.csv"}
    step(
        "super_activations", files / "manifest.json", files / "super_weights.json", files / "text.parquet",
        "--places", tables["places"], "--sinks", tables["sinks"], "--figure", files / "activations.png",
        "--window", 64, "--tokens", 512,
    )  # fmt: skip
    made = model.super_activations(read_table(files / "text.parquet"), found, window=64, tokens=512)
    assert len(made.places)
    for name, path in tables.items():
        write_table(files / f"api-{name}.csv", getattr(made, name))
        assert (files / f"api-{name}.csv").read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_massive_activations_of_the_api_are_those_of_the_step(files, model, found):
    tables = {name: files / f"massive.{name}.csv" for name in ("sites", "weights", "heads", "definitions")}
    step(
        "massive_activations", files / "manifest.json", files / "super_weights.json", files / "text.parquet",
        "--found", files / "massive.json", *(each for name, path in tables.items() for each in (f"--{name}", path)),
        "--figure", files / "massive.png", "--window", 64, "--tokens", 256, "--removals", 2, "--draws", 3,
    )  # fmt: skip
    text = read_table(files / "text.parquet")
    made = model.massive_activations(text, found, window=64, tokens=256, removals=2, draws=3)
    assert len(made.sites) and made.weights.delta_nll.notna().sum() == 2
    for name, path in tables.items():
        write_table(files / f"api-{name}.csv", getattr(made, name))
        assert (files / f"api-{name}.csv").read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_neurons_and_interventions_of_the_api_are_those_of_the_steps(files, model, found):
    manifest, tensors, classes = (files / name for name in ("manifest.json", "tensors.parquet", "classes.parquet"))
    artifact, labels, targets = (files / name for name in ("super_weights.json", "labels.parquet", "targets.json"))
    step(
        "neuron_effects", manifest, tensors, classes, files / "neurons.parquet", "--super-weights", artifact,
        "--labels", labels, "--counts", files / "counts.csv", "--map-of-all", files / "map.png", "--cards",
        files / "cards.jsonl", "--table", files / "cards.csv", "--figure", files / "cards.png", "--figures",
        files / "cards", "--top-k", 1, "--tokens", 5,
    )  # fmt: skip
    step(
        "intervention_targets", manifest, tensors, files / "text.parquet", artifact, "--targets", targets,
        "--windows", files / "sliding.parquet", "--report", files / "sliding.json", "--window-len", 64,
        "--tokens", 1000,
    )  # fmt: skip
    step(
        "cascade", manifest, targets, files / "sliding.parquet", "--table", files / "cascade.csv",
        "--tokens-table", files / "tokens.parquet", "--figure", files / "cascade.png", "--figures", files / "cascades",
        "--tokens", 500, "--text-tokens", 5,
    )  # fmt: skip
    cards = model.neuron_effects(found=found, top_k=1, tokens=5)
    write_table(files / "api-cards.csv", cards.table.assign(model="model"))
    assert (files / "api-cards.csv").read_bytes() == (files / "cards.csv").read_bytes()
    assert len(cards.cards) == len(cards.effects)
    chosen = model.intervention_targets(found)
    assert chosen == json.loads(targets.read_text())["targets"]
    assert model.intervention_targets(coordinates=[[1, 7, 11]])[0]["original_value"] == chosen[0]["original_value"]
    windows = model.windows(read_table(files / "text.parquet"), window_len=64, tokens=1000)
    write_table(files / "api-cascade.csv", model.cascade(windows, chosen, tokens=500))
    assert (files / "api-cascade.csv").read_bytes() == (files / "cascade.csv").read_bytes()
    measured, changes = files / "interventions.parquet", files / "changes.parquet"
    step(
        "interventions", manifest, targets, files / "sliding.parquet", classes, "--table", measured,
        "--changes", changes, "--draws", 2, "--shift-draws", 2, "--control-tokens", 200,
    )  # fmt: skip
    made = model.interventions(windows, chosen, draws=2, shift_draws=2, control_tokens=200)
    for table, path in ((made.windows, measured), (made.changes, changes)):
        write_table(files / "api.parquet", table)
        pd.testing.assert_frame_equal(read_table(files / "api.parquet"), read_table(path), rtol=1e-9)
    step(
        "super_weight_cards", manifest, tensors, targets, measured, changes, files / "cascade.csv", classes,
        "--cards", files / "weights.jsonl", "--table", files / "weights.csv", "--figure", files / "weights.png",
        "--figures", files / "weights", "--bootstrap", 20,
    )  # fmt: skip
    weights = model.super_weight_cards(chosen, made, model.cascade(windows, chosen, tokens=500), bootstrap=20)
    write_table(files / "api-weights.csv", weights.table.assign(model="model"))
    pd.testing.assert_frame_equal(read_table(files / "api-weights.csv"), read_table(files / "weights.csv"), rtol=1e-9)
    assert set(weights.effects["target"]) == set(range(len(chosen)))


@pytest.mark.slow
def test_experts_of_the_api_are_those_of_the_step(tmp_path, files, model):
    from transformers import MixtralConfig, MixtralForCausalLM

    shutil.copytree(model.checkpoint.folder, tmp_path / "moe", ignore=shutil.ignore_patterns("*.safetensors"))
    config = MixtralConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        num_local_experts=3, vocab_size=len(model.vocabulary.texts), max_position_embeddings=128,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path / "moe")
    manifest, tensors, table = tmp_path / "manifest.json", tmp_path / "tensors.parquet", tmp_path / "experts.csv"
    step("fetch_checkpoint", "--manifest", manifest, "--source", tmp_path / "moe")
    step("tensor_inventory", manifest, "--table", tensors)
    step(
        "expert_routing", manifest, tensors, files / "text.parquet", "--table", table, "--found", tmp_path / "x.json",
        "--figure", tmp_path / "x.png", "--window", 32, "--router-analysis-samples", 3,
    )  # fmt: skip
    mixture = wa.open(str(tmp_path / "moe"))
    made = mixture.expert_routing(read_table(files / "text.parquet"), window=32, router_analysis_samples=3)
    write_table(tmp_path / "api.csv", made)
    assert len(made) == 6
    assert (tmp_path / "api.csv").read_bytes() == table.read_bytes()
    with pytest.raises(wa.NotApplicable, match="no mixture of experts"):
        model.expert_routing("bundled:python-docs")


@pytest.mark.slow
def test_the_code_of_the_documentation_runs():
    names: dict = {}
    for block in BLOCK.findall((ROOT / "docs/library.md").read_text()):
        exec(block, names)
    assert len(names["ranks"]) == len(names["tails"]) == 30
    assert names["verdict"].verdict == "critical"
    assert names["given"]["perplexity"][1] > 100 * names["given"]["perplexity"][0]
    assert "dmeo" in names["message"] and "no mixture of experts" in names["reason"]
    assert set(names["scores"].scores["variant"]) == {"baseline", "ablation: zeroed"}
    assert names["cards"].table["neuron"].tolist() == [11]
    assert set(names["cascade"]["layer"]) == {1, 2, 3}
    assert {"baseline", "edit"} < set(names["measured"].windows["kind"])
    assert names["weights"].table["layer"].tolist() == [target["layer"] for target in names["targets"]]
    assert names["errors"]["variant"].nunique() == 6  # per tensor, channel and group of 128, plain and sparing
