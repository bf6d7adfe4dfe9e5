"""What many models cost before any step runs: building the graph of jobs from nothing, and a run with nothing to do.

    python benchmarks/many_models.py --models 200
    python benchmarks/many_models.py --models 20 --profile 25

Models are rows of a table; of each there is a header of 80 layers in front of nothing (a sparse file of 140 GB), and no
step runs: their outputs are touched and recorded as Snakemake records them. CPU seconds are those of one process each,
imports of Snakemake included; on a busy machine they vary by a fifth.
"""

import asyncio
import cProfile
import json
import os
import pstats
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cyclopts

ROOT = Path(__file__).parents[1]
LAYERS, WIDTH = 80, 8192
app = cyclopts.App(help=__doc__)


@app.default
def main(models: int = 200, profile: int = 0) -> None:
    """Print CPU seconds, memory and jobs; profile: lines of the profile of a run with nothing to do."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write(folder, models)
        for what in ("from nothing", "recorded", "nothing to do"):
            command = [sys.executable, __file__, "plan", str(folder), f"--what={what}", f"--profile={profile}"]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder).stdout)
            if what == "recorded":
                continue
            jobs = found["jobs"]
            print(
                f"{what}: {models} models, {jobs} jobs ({jobs / models:.1f} a model, {found['run']} to run): "
                f"{found['seconds']:.1f} CPU s, {1000 * (found['seconds'] - 3) / jobs:.2f} ms a job beside 3 s, "
                f"{found['megabytes']:.0f} MB",
                flush=True,
            )
            print(found["profile"], end="")


def _write(folder: Path, models: int) -> None:
    """A table of models, and for each a folder with a configuration and the header of its tensors."""
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "vocab_size": 32000,
        "intermediate_size": 28672, "num_hidden_layers": LAYERS, "num_attention_heads": 64, "num_key_value_heads": 8,
    }  # fmt: skip
    header, at = {}, 0
    layer = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (1024, WIDTH), "self_attn.v_proj": (1024, WIDTH),
             "self_attn.o_proj": (WIDTH, WIDTH), "mlp.gate_proj": (28672, WIDTH), "mlp.up_proj": (28672, WIDTH),
             "mlp.down_proj": (WIDTH, 28672), "input_layernorm": (WIDTH,),
             "post_attention_layernorm": (WIDTH,)}  # fmt: skip
    shapes = {f"model.layers.{n}.{name}.weight": shape for n in range(LAYERS) for name, shape in layer.items()}
    shapes |= {
        "model.embed_tokens.weight": (32000, WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (32000, WIDTH),
    }
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    rows = ["name\tsource"]
    for number in range(models):
        model = folder / f"models/m{number}"
        model.mkdir(parents=True)
        (model / "config.json").write_text(json.dumps(config))
        with (model / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + at)
        rows.append(f"m{number}\t{model}")
    (folder / "models.tsv").write_text("\n".join(rows) + "\n")
    (folder / "c.yaml").write_text("models_table: models.tsv\nablations: {super_weights: {zero: {}}}\n")


@app.command
def plan(folder: Path, what: str, profile: int = 0, profiled: str = "from nothing") -> None:
    """Build the graph once and print what it took as JSON; what = recorded: then leave all as if it had run."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import RerunTrigger
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    triggers = frozenset(RerunTrigger.parse_choices_set(["mtime", "params", "input", "software-env"]))
    os.chdir(folder)
    profiler = cProfile.Profile()
    if profile and what == profiled:
        profiler.enable()
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[folder / "c.yaml"]),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        workflow.dag(DAGSettings(rerun_triggers=triggers)).execute_workflow(executor="dryrun")
        store: Any = workflow._workflow_store
        jobs = list(store.dag.jobs)
        running = sum(map(store.dag.needrun, jobs))
        if what == "recorded":
            asyncio.run(_record(store, jobs))
    profiler.disable()
    lines = _lines(profiler, profile) if profile and what == profiled else ""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "jobs": len(jobs), "run": running, "seconds": spent.ru_utime + spent.ru_stime, "profile": lines,
        "megabytes": spent.ru_maxrss / 1000,
    }  # fmt: skip
    print(json.dumps(found))


async def _record(store: Any, jobs: list[Any]) -> None:
    now = time.time()
    for job in jobs:
        for path in map(Path, job.output):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if path.suffix else path.mkdir(exist_ok=True)
            os.utime(path, (now, now))
    for job in jobs:
        await store.persistence.finished(job)


def _lines(profiler: cProfile.Profile, most: int) -> str:
    from io import StringIO

    stream = StringIO()
    pstats.Stats(profiler, stream=stream).sort_stats("tottime").print_stats(most)
    return stream.getvalue()


if __name__ == "__main__":
    app()
