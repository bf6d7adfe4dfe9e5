"""What the command costs in CPU seconds, one thread: a first scan, a second one beside `snakemake -n`, an inspection.

    OMP_NUM_THREADS=1 python benchmarks/command.py

The model is GPT-2-shaped and random: 12 layers of width 96. The scan takes statistics, ranks, tails and findings of it.
Inspected is a Llama-shaped model of 1,000 tensors in 8 shards, from a stand-in for the hub on this machine. CPU seconds
are those of all processes; on a busy machine they vary by a fifth.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import cyclopts

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/unit"))
app = cyclopts.App(help=__doc__)
LAYERS = 111  # nine tensors each, and one embedding: 1,000


@app.default
def main(scans: bool = True) -> None:
    """Print the costs."""
    with tempfile.TemporaryDirectory() as folder:
        if scans:
            _scans(Path(folder))
        _inspection(Path(folder))


def _scans(folder: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(n_layer=12, n_embd=96, n_head=6, vocab_size=2000, n_positions=128)
    GPT2LMHeadModel(shape).save_pretrained(folder / "model")
    scan = [sys.executable, "-m", "weight_atlas", "scan", "model", "--workers", "1", "--top-issues", "10"]
    print(f"first scan: {_cpu(scan, folder):.2f} CPU s")
    files = [f"results/{name}/model.csv" for name in ("weight_statistics", "effective_rank", "heavy_tail")]
    dry = [sys.executable, "-m", "snakemake", "-n", *files, "results/findings/model.json", "--snakefile"]
    dry += [str(ROOT / "Snakefile"), "--configfile", "weight-atlas.yaml", "--cores", "1"]
    pairs = [(_cpu(scan, folder), _cpu(dry, folder)) for _ in range(3)]
    second, planned = (min(each) for each in zip(*pairs, strict=True))
    print(f"second scan: {second:.2f} CPU s; snakemake -n: {planned:.2f} CPU s; ratio {second / planned:.2f}")


def _inspection(folder: Path) -> None:
    from standin_hub import Repository, standin_hub

    with standin_hub({"org/model": Repository(_llama())}) as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "hub")}
        inspect = [sys.executable, "-m", "weight_atlas", "inspect", "org/model"]
        began = time.monotonic()
        spent = _cpu(inspect, folder, environment)
        print(
            f"inspect: {spent:.2f} CPU s, {time.monotonic() - began:.2f} s, {len(hub.requests)} requests to two servers"
        )


def _cpu(command: list[str], folder: Path, more: dict[str, str] | None = None) -> float:
    """User and system seconds of a command and its children."""
    before = getrusage(RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(more or {})}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _llama(shards: int = 8, width: int = 8) -> dict[str, bytes]:
    """The files of a model of 1,000 tensors, all zero."""
    shapes = {"model.embed_tokens.weight": [32, width]}
    attention = [f"self_attn.{name}_proj" for name in "qkvo"]
    for layer in range(LAYERS):
        for name in (*attention, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
            shapes[f"model.layers.{layer}.{name}.weight"] = [width, width]
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{name}.weight"] = [width]
    shapes["model.norm.weight"] = [width]
    names, files, index = list(shapes), {}, {}
    for number in range(shards):
        file, header, end = f"model-{number + 1:05d}-of-{shards:05d}.safetensors", {}, 0
        for name in names[number::shards]:
            size = 2 * shapes[name][0] * (shapes[name][1] if len(shapes[name]) > 1 else 1)
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [end, end + size]}
            index[name], end = file, end + size
        text = json.dumps(header).encode()
        files[file] = struct.pack("<Q", len(text)) + text + bytes(end)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width, "intermediate_size": width,
        "num_hidden_layers": LAYERS, "num_attention_heads": 2, "vocab_size": 32, "tie_word_embeddings": True,
    }  # fmt: skip
    index_file = {"model.safetensors.index.json": json.dumps({"weight_map": index}).encode()}
    return {**files, **index_file, "config.json": json.dumps(config).encode()}


if __name__ == "__main__":
    app()
