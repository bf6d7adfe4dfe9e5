"""The command lines of published scripts on super weights and vocabularies, as one line each, by names of the hub."""

import re
import shlex

import pandas as pd
import pytest
import yaml
from project import ROOT
from test_command_line import Repository, bundled, run, standin_hub

pytestmark = pytest.mark.slow

OLMO, MISTRAL = "allenai/OLMo-1B-0724-hf", "mistralai/Mistral-7B-v0.1"
SUPER_WEIGHTS = (
    f"super-weights --models {OLMO} {MISTRAL} --spike-threshold 50.0 --perplexity-samples 500 --accuracy-samples 100 "
    "--accuracy-tasks hellaswag arc_easy mmlu gsm8k --verbose"
)
VOCABULARY = (
    f"vocabulary --models {OLMO} --dataset wikitext-2 --tokens 30000 --window-len 1024 --stride 512 "
    "--drop-first-token --enable-cosine --enable-enrichment --enable-cascade --output-dir ./vocab_runs --bootstrap 500"
)
KEYS = {"vocab_size": 2048, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
KEYS |= {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512}


def repository(folder, kind: str) -> Repository:
    """A small model of a family, with numbers drawn at random and the bundled model's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **KEYS)).save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return Repository(
        files | {name: (bundled("demo") / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The environment in which the hub has a small model under each name."""
    folder = tmp_path_factory.mktemp("hub")
    models = {name: repository(folder / kind, kind) for name, kind in ((OLMO, "olmo"), (MISTRAL, "mistral"))}
    with standin_hub(models) as hub:
        yield {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        (SUPER_WEIGHTS, ["super_weight_verification", "ablation_perplexity", "impact_summary", "task_requests"]),
        (VOCABULARY, ["neuron_effects", "super_weight_cards", "cascade"]),
    ],
    ids=["super-weights", "vocabulary"],
)
def test_what_they_would_run(tmp_path, hub, line, steps):
    done = run(tmp_path, *shlex.split(line), "--dry-run", **hub)
    assert done.returncode == 0 and "error: " not in done.stderr, done.stderr
    for step in steps:
        assert re.search(rf"^{step} +\d", done.stderr, flags=re.M), step
    assert not list(tmp_path.rglob("results")) and not list(tmp_path.rglob("weight-atlas.yaml"))


@pytest.mark.parametrize(
    ("line", "step"), [(SUPER_WEIGHTS, "super_weight_verification"), (VOCABULARY, "cascade")], ids=["first", "second"]
)
def test_they_take_the_bundled_model(tmp_path, line, step):
    own = line.replace(f" {MISTRAL}", "").replace(OLMO, "bundled:demo")
    done = run(tmp_path, *shlex.split(own), "--dry-run")
    assert done.returncode == 0 and "error: " not in done.stderr, done.stderr
    assert re.search(rf"^{step} +1$", done.stderr, flags=re.M), done.stderr


def test_a_run_by_the_name_on_the_hub(tmp_path, hub):
    """On a text of one's own, with the numbers of a quick look."""
    captions = "\n\n".join(path.read_text() for path in sorted((ROOT / "report").glob("*.rst")))
    (tmp_path / "text.txt").write_text(captions * 2)
    (tmp_path / "out").mkdir()
    own = {"effort": "quick", "corpora": {"text": {"source": str(tmp_path / "text.txt")}}}
    (tmp_path / "out/weight-atlas.yaml").write_text(yaml.safe_dump(own))
    line = f"super-weights --models {OLMO} --spike-threshold 50.0 --perplexity-samples 4 --workers 2 --results-dir out"
    done = run(tmp_path, *shlex.split(line), **hub)
    assert done.returncode == 0, done.stderr
    assert f"hf://{OLMO}, commit 0123456789ab" in done.stdout and "No super weight was found" in done.stdout
    perplexity = pd.read_csv(tmp_path / "out/results/ablation_perplexity/OLMo-1B-0724-hf.csv")
    assert perplexity["tokens"].iloc[0] == 4 * 255  # the first of a window is not scored
