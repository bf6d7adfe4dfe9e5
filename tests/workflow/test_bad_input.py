"""Bad input ends with one message that says what, where and what to do, and exit code 1."""

import json
import re
import shutil
import struct

import in_process
import numpy as np
import pytest
import yaml
from project import ROOT, Project

pytestmark = pytest.mark.slow

DEMO = ROOT / "src/weight_atlas/data/demo/model"
DEMO_ALONE = {"mine": {"source": "bundled:demo"}}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project.copy(tmp_path_factory.mktemp("bad_input") / "project")


@pytest.fixture
def run(tmp_path):
    """Run a target for one model (and corpus): the exit code of the first job that fails, and what the user sees."""

    def run(target, *, model=None, corpora=None, **sections):
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        models = {"mine": model or {"source": "bundled:demo"}}
        config = {"models": models, **({"corpora": corpora} if corpora else {}), **sections}
        return in_process.outcome(tmp_path, config, target)

    return run


@pytest.fixture
def plan(project, tmp_path):
    """Have Snakemake itself, in a process of its own, make a plan of a configuration: its exit code and output."""

    def plan(**config):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        where = ("--directory", tmp_path, "--configfile", tmp_path / "config.yaml")
        done = project.snakemake(*where, "-n", check=False)
        return done.returncode, done.stdout + done.stderr

    return plan


@pytest.fixture
def model(tmp_path):
    """A copy of the bundled model to damage."""
    return shutil.copytree(DEMO, tmp_path / "model")


def expect(result, *parts):
    code, output = result
    assert code == 1, output
    assert "Traceback" not in output, output
    for part in parts:
        assert part in output, output


def header_and_data(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_unknown_key_names_the_nearest(plan):
    expect(plan(models=DEMO_ALONE, efective_rank={}), "unknown key 'efective_rank'", "did you mean 'effective_rank'?")


def test_wrong_type(plan):
    expect(plan(models=DEMO_ALONE, effective_rank={"phases": "many"}), "effective_rank.phases", "integer")


def test_model_names_cannot_be_paths(plan):
    expect(plan(models={"../up": {"source": "bundled:demo"}}), "cannot be a name", "letters, digits")


def test_nested_values_of_the_command_line_reach_the_steps(project, tmp_path):
    settings = ("--config", "effective_rank={phases: 4}", "attention_kernel={scaled: true}")
    done = project.snakemake("effective_ranks", "--directory", tmp_path, "-n", "-p", *settings)
    assert re.search(r"^rule effective_rank:", done.stdout, flags=re.M)
    refused = project.snakemake("-n", "--config", "effective_rank={phases: 1}", check=False)
    expect((refused.returncode, refused.stdout + refused.stderr), "should be greater than or equal to 2, not 1")


def test_a_key_that_stands_twice_is_refused_in_every_file(project, tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("models: {a: {source: bundled:demo}}\n")
    second.write_text("models: {b: {source: bundled:demo}}\nmodels: {c: {source: bundled:demo}}\n")
    done = project.snakemake("--configfile", first, second, "--directory", tmp_path, "-n", check=False)
    expect((done.returncode, done.stdout + done.stderr), "'models' stands twice", str(second), "lines 1 and 2")


def test_a_key_that_stands_twice_on_the_command_line_is_refused(project):
    refused = project.snakemake("-n", "--config", "effective_rank={phases: 3, phases: 4}", check=False)
    expect((refused.returncode, refused.stdout + refused.stderr), "'phases' stands twice", "command line: --config")


def test_braces_and_line_breaks_in_paths_are_no_wildcards(project, tmp_path):
    model = shutil.copytree(DEMO, tmp_path / "{draft}" / "a<results>\n{model}")
    (tmp_path / "{corpus}.txt").write_text("A text.\n")
    models, corpora = {"mine": {"source": str(model)}}, {"c": {"source": str(tmp_path / "{corpus}.txt")}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"models": models, "corpora": corpora}))
    where = ("--directory", tmp_path / "{run}", "--configfile", tmp_path / "c.yaml", "--", "checkpoints", "corpora")
    project.snakemake(*where)
    assert project.would_run(*where) == set()
    (model / "generation_config.json").unlink()
    (tmp_path / "{corpus}.txt").write_text("Another text.\n")
    assert project.would_run(*where) >= {"fetch_checkpoint", "corpus"}


def test_missing_folder(run, tmp_path):
    expect(run("checkpoints", model={"source": str(tmp_path / "nowhere")}), "error:", "nowhere")


def test_folder_without_weights(run, model):
    (model / "model.safetensors").unlink()
    expect(run("checkpoints", model={"source": str(model)}), "error:", str(model), "safetensors")


def test_truncated_file(project, model, tmp_path):
    """As users see it: Snakemake and the job are processes of their own."""
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"models": {"mine": {"source": str(model)}}}))
    where = ("tensor_inventories", "--directory", tmp_path, "--configfile", tmp_path / "c.yaml")
    done = project.snakemake(*where, check=False)
    expect((done.returncode, done.stdout + done.stderr), "error:", "model.safetensors")


def test_corrupt_header(run, model):
    path = model / "model.safetensors"
    path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:])
    expect(run("tensor_inventories", model={"source": str(model)}), "error:", "model.safetensors")


def test_index_names_a_missing_shard(run, model):
    header, _ = header_and_data(model / "model.safetensors")
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    names = [name for name in header if name != "__metadata__"]
    weight_map = dict.fromkeys(names, "model-00002-of-00002.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    expect(run("tensor_inventories", model={"source": str(model)}), "error:", "model-00002-of-00002.safetensors")


def test_unknown_architecture(run, model):
    config = json.loads((model / "config.json").read_text())
    config |= {"architectures": ["StrangeForCausalLM"], "model_type": "strange"}
    (model / "config.json").write_text(json.dumps(config))
    expect(run("tensor_inventories", model={"source": str(model)}), "StrangeForCausalLM", "family")
    code, output = run("tensor_inventories", model={"source": str(model), "family": "llama"})
    assert code == 0, output


def test_a_tensor_that_no_row_explains(run, model):
    header, data = header_and_data(model / "model.safetensors")
    header["model.layers.0.mlp.strange.weight"] = {
        "dtype": "U8",
        "shape": [4],
        "data_offsets": [len(data), len(data) + 4],
    }
    write_safetensors(model / "model.safetensors", header, data + b"abcd")
    expect(run("tensor_inventories", model={"source": str(model)}), "layers.N.mlp.strange.weight", "allow_other")
    code, output = run("tensor_inventories", model={"source": str(model), "allow_other": True})
    assert code == 0, output


def test_nan_weights_are_flagged_and_statistics_go_on(run, model, tmp_path):
    import pandas as pd

    header, data = header_and_data(model / "model.safetensors")
    begin, _ = header["model.layers.0.self_attn.q_proj.weight"]["data_offsets"]
    values = bytearray(data)
    values[begin : begin + 4] = np.array([0x7FC0, 0x7F80], dtype="<u2").tobytes()
    write_safetensors(model / "model.safetensors", header, bytes(values))
    code, output = run("results/weight_statistics/mine.csv", model={"source": str(model)})
    assert code == 0, output
    table = pd.read_csv(tmp_path / "results/weight_statistics/mine.csv")
    row = table[(table.role == "W_Q") & (table.layer == 0)].iloc[0]
    assert (row.nan, row.inf) == (1, 1)
    assert np.isfinite(row["std"])
    assert "NaN" in (tmp_path / "logs/value_histogram/mine.log").read_text()


def test_hub_not_reachable(project, tmp_path):
    config = {"models": {"mine": {"source": "hf://nobody/nothing"}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {**project.environment, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    del environment["HF_HUB_OFFLINE"]
    arguments = ("checkpoints", "--directory", tmp_path, "--configfile", tmp_path / "config.yaml")
    done = project.start_snakemake(*arguments, check=False, env=environment)  # the hub's library reads these at import
    expect((done.returncode, done.stdout + done.stderr), "error:", "nobody/nothing")


def test_missing_corpus(run, tmp_path):
    source = str(tmp_path / "no.txt")
    expect(run("corpora", corpora={"mine": {"source": source}}), "error:", "no.txt")


def test_corpus_too_short(run, tmp_path):
    (tmp_path / "short.txt").write_text("Only a few words.")
    corpora = {"mine": {"source": str(tmp_path / "short.txt")}}
    expect(run("results/ablation_perplexity/mine.csv", corpora=corpora), "error:", "tokens")


def test_a_failing_model_does_not_stop_the_others(project, tmp_path):
    models = {"good": {"source": "bundled:demo"}, "bad": {"source": str(tmp_path / "nowhere")}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"models": models}))
    arguments = (
        "--directory",
        tmp_path,
        "--configfile",
        tmp_path / "config.yaml",
        "--keep-going",
        "tensor_inventories",
    )
    done = project.snakemake(*arguments, check=False)
    assert done.returncode == 1
    assert (tmp_path / "results/tensor_inventory/good.parquet").is_file()
    said = done.stdout + done.stderr
    assert "Steps failed of 1 of 2 models" in said and "bad: fetch_checkpoint: " in said and "nowhere" in said
