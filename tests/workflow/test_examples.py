"""The shipped examples run: local ones on files made for them, the others as far as a dry run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from planned import Plans
from project import ROOT, Project
from safetensors.torch import save_file

pytestmark = pytest.mark.slow

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
    "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1, "vocab_size": 10,
}  # fmt: skip
SHAPES = {
    "model.embed_tokens.weight": (10, 8),
    **{f"model.layers.0.self_attn.{name}_proj.weight": (8, 8) for name in "qo"},
    **{f"model.layers.0.self_attn.{name}_proj.weight": (4, 8) for name in "kv"},
    **{f"model.layers.0.mlp.{name}_proj.weight": (12, 8) for name in ("gate", "up")},
    "model.layers.0.mlp.down_proj.weight": (8, 12),
    **{f"model.layers.0.{name}_layernorm.weight": (8,) for name in ("input", "post_attention")},
    "model.norm.weight": (8,),
    "lm_head.weight": (10, 8),
}  # fmt: skip


def make_detector(folder, state):
    """A training run and the files beside it, laid out like a language detector's."""
    folder.mkdir()
    moves = state["token_weights"] - state["token_weights"][state["token_mask"]].mean()
    for step in (500, 5000, 10000):
        state["token_weights"] = 1 + moves * step / 10000
        torch.save({"step": step, "model_state_dict": state}, folder / f"checkpoint_step_{step}.pt")
    torch.save({"epoch": 1, "model_state_dict": state}, folder / "checkpoint_epoch_1.pt")
    np.save(folder / "token_counts.npy", np.arange(50)[:, None])
    entries = {"row_indices": torch.arange(50), "col_indices": torch.arange(50) % 2, "values": torch.arange(50.0)}
    save_file(entries, folder / "lookup_table_exp.safetensors")
    (folder / "languages.txt").write_text("eng_Latn\ndeu_Latn\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The workflow with the files that the local example names: a folder, a state dict, a detector's vectors."""
    project = Project.copy(tmp_path_factory.mktemp("examples") / "project")
    random = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=random) for name, shape in SHAPES.items()}
    for folder in ("models/my-model", "checkpoints", "texts"):
        (project.folder / folder).mkdir(parents=True)
    save_file(state, project.folder / "models/my-model/model.safetensors")
    (project.folder / "models/my-model/config.json").write_text(json.dumps(CONFIG))
    torch.save({"epoch": 1, "model_state_dict": state}, project.folder / "checkpoints/checkpoint_epoch_1.pt")
    vectors = {"token_weights": torch.randn(50, 1, generator=random), "projection.weight": torch.randn(3, 8)}
    vectors |= {"token_mask": torch.rand(50, 1, generator=random) > 0.2, "embeddings": torch.randn(50, 8) + 4}
    torch.save({"model_state_dict": vectors}, project.folder / "checkpoints/detector.pt")
    make_detector(project.folder / "detector", vectors)
    (project.folder / "texts/one.txt").write_text("Some text.")
    (project.folder / "texts/more.jsonl").write_text('{"text": "And more."}\n')
    return project


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/examples/*.yaml")), ids=lambda path: path.name)
def test_every_example_makes_a_plan(project, path):
    # An example is about models, or about vectors without any.
    due, _ = Plans(project.folder, path).now()
    assert {"fetch_checkpoint", "token_weights"} & {rule for rule, _ in due}


def test_the_local_example_runs(project):
    project.snakemake("--configfile", "config/examples/local-checkpoint.yaml", "--set-scatter", "part=1")
    results = project.folder / "results"
    for model in ("my-model", "epoch-1"):
        assert set(pd.read_csv(results / f"effective_rank/{model}.csv")["role"]) >= {"W_Q", "W_E", "W_down"}
    cdf = pd.read_csv(results / "weight_cdf/detector.csv")
    assert set(cdf["tensor"]) == {"token_weights", "token_mask", "projection.weight", "embeddings"}
    page = (results / "atlas/detector.md").read_text()
    assert "RMSNorm" not in page and "rotary" not in page and "token_weights" in page


def test_the_detectors_example_runs(project):
    project.snakemake("--configfile", "config/examples/language-detector.yaml")
    results = project.folder / "results"
    course = pd.read_csv(results / "token_weight_evolution/detector.csv")
    assert course["checkpoint"].tolist() == ["step_500", "step_5000", "step_10000", "epoch_1"]
    assert "as expected" in json.loads((results / "token_weight_evolution/detector.json").read_text())["reading"]
    keep = torch.load(project.folder / "detector/checkpoint_epoch_1.pt")["model_state_dict"]["token_mask"].numpy()[:, 0]
    assert (np.load(results / "token_weight_frequency/detector/mask.npy") == keep & (np.arange(50) >= 10)).all()
    best = pd.read_csv(results / "token_weights/languages/columns.csv")
    assert best[best["column"] == "deu_Latn"]["id"].tolist()[:2] == [49, 47]
    page = (results / "vector_page/detector.md").read_text()
    assert "../token_weight_frequency/detector.png" in page and "no learning" in page
    assert project.would_run("--configfile", "config/examples/language-detector.yaml") == set()


def test_the_study_of_a_trained_embedding_that_nobody_here_made(project):
    """WordLlama's embedding with Llama-2's tokenizer, both from its wheel, from start to end."""
    package = Path(pytest.importorskip("wordllama").__file__).parent
    vector = {
        "source": str(package / "weights/l2_supercat_256.safetensors"), "key": "embedding.weight", "reduce": "norm",
        "tokenizer": str(package / "tokenizers/l2_supercat_tokenizer_config.json"), "counts": "text",
    }  # fmt: skip
    config = {"models": {"demo": {"source": "bundled:demo", "analyses": []}}, "token_weights": {"wordllama": vector}}
    config["corpora"] = {"text": {"source": "readme.txt"}}
    (project.folder / "wordllama.yaml").write_text(yaml.safe_dump(config))
    (project.folder / "readme.txt").write_text((ROOT / "README.md").read_text())
    project.snakemake("vector_pages", "--configfile", "wordllama.yaml")
    results = project.folder / "results"
    row = pd.read_csv(results / "token_weights/wordllama.csv").iloc[0]
    found = [round(row[name], 3) for name in ("mean", "median", "std", "min", "max", "p1", "p99")]
    assert found == [13.776, 13.343, 4.851, 0.381, 38.511, 3.348, 26.775]
    assert pd.read_csv(results / "token_weights/wordllama/tokens.csv")["token"].iloc[0] == "prototype"
    table = pd.read_csv(results / "token_weight_frequency/wordllama.csv")
    assert table[table["measure"] == "pearson"]["value"].max() < 0
