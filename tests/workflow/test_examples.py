"""The shipped examples run: local ones on files made for them, the others as far as a dry run."""

import json

import pandas as pd
import pytest
import torch
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
    (project.folder / "texts/one.txt").write_text("Some text.")
    (project.folder / "texts/more.jsonl").write_text('{"text": "And more."}\n')
    return project


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/examples/*.yaml")), ids=lambda path: path.name)
def test_every_example_makes_a_plan(project, path):
    assert "fetch_checkpoint" in project.would_run("--configfile", path)


def test_the_local_example_runs(project):
    project.snakemake("--configfile", "config/examples/local-checkpoint.yaml", "--set-scatter", "part=1")
    results = project.folder / "results"
    for model in ("my-model", "epoch-1"):
        assert set(pd.read_csv(results / f"effective_rank/{model}.csv")["role"]) >= {"W_Q", "W_E", "W_down"}
    cdf = pd.read_csv(results / "weight_cdf/detector.csv")
    assert set(cdf["tensor"]) == {"token_weights", "token_mask", "projection.weight", "embeddings"}
    page = (results / "atlas/detector.md").read_text()
    assert "RMSNorm" not in page and "rotary" not in page and "token_weights" in page
