"""Peak memory and CPU seconds of steps that score windows: the head applied in chunks against all logits at once.

    OMP_NUM_THREADS=1 python benchmarks/head.py --vocabulary 32000 --vocabulary 262144

A Llama of d_model 768 with random weights in float32, of few layers since what is compared comes after them. Each row
is a process of its own: `model` is its resident memory with the model loaded, `above` what its peak adds to that, MB.
`whole` makes the logits of a batch at once, as the model's own forward pass does.

MB above a model of 2.1 GB and CPU seconds at V = 262,144, two layers, one thread, in chunks and (whole), on a machine
that others used too: the perplexity of 2 windows of 512 tokens 1,146 (3,104) MB, 5.5 (6.9) s; verification of 4 weights
on a window of 256 276 (1,306) MB, 9.2 (8.6) s; interventions on a window of 96 391 (700) MB, 6.1 (8.8) s. Tensors take
two products of 2^25 logits, 268 MB; in some runs, as in that of the perplexity, the process held 0.9 GB more for a
moment.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cyclopts
import numpy as np
import pandas as pd
import psutil
import torch

from weight_atlas.live import head, memory
from weight_atlas.live.anatomy import Anatomy, Coordinate, anatomy
from weight_atlas.live.batched_scoring import score_edits
from weight_atlas.live.edits import zero
from weight_atlas.live.scoring import score_windows
from weight_atlas.live.shortcuts import shortcuts_of
from weight_atlas.live.windows import Windows, fixed_windows
from weight_atlas.settings.vocabulary import Interventions
from weight_atlas.vocabulary.interventions import measure_interventions
from weight_atlas.vocabulary.prediction_measures import prediction_measure

app = cyclopts.App(help=__doc__)
MB = 1 << 20
EDITED = [Coordinate(layer, row, 5) for layer in (0, 1) for row in (3, 4)]
# Windows, and tokens of each.
SIZES = {"perplexity": (2, 512), "verification": (1, 256), "interventions": (1, 96)}


def random_model(vocabulary: int, layers: int) -> Anatomy:
    """The model, its head apart from its embedding: nothing is made and freed again before the measurement."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    configuration = LlamaConfig(
        vocab_size=vocabulary, hidden_size=768, intermediate_size=2048, num_hidden_layers=layers,
        num_attention_heads=12, num_key_value_heads=12, max_position_embeddings=2048, tie_word_embeddings=False,
    )  # fmt: skip
    return anatomy(LlamaForCausalLM(configuration).eval().requires_grad_(False))


def work_of(step: str, live: Anatomy, windows: Windows) -> Callable[[], object]:
    """What a step does with its windows."""
    if step == "perplexity":
        return lambda: score_windows(live, windows, batch_size=16)
    if step == "verification":
        edits = [(zero(coordinate),) for coordinate in EDITED]
        return lambda: score_edits(live, windows, edits, shortcuts_of(live, windows.ids[:1], edits), batch_size=16)
    measure, settings = prediction_measure(torch.arange(100)), Interventions(draws=2, shift_draws=2)
    return lambda: measure_interventions(live, windows, EDITED[:1], measure, settings, factor=0.0)


@app.command
def one(step: str, vocabulary: int, layers: int, *, whole: bool = False) -> None:
    """Measure one case in this process."""
    live = random_model(vocabulary, layers)
    if whole:
        live = replace(live, head=replace(live.head, chunked=False))
        memory.ACTIVATIONS = head.LOGITS = head.COMPARED = 1 << 62
    count, length = SIZES[step]
    ids = np.random.default_rng(0).integers(0, vocabulary, count * length)
    work = work_of(step, live, fixed_windows(ids, window=length))
    before, start = psutil.Process().memory_info().rss / MB, time.process_time()
    work()
    seconds, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"model": round(before), "above": round(peak - before), "seconds": round(seconds, 1)}))


@app.default
def main(*, vocabulary: tuple[int, ...] = (32000, 262144), steps: tuple[str, ...] = tuple(SIZES), layers: int = 2):
    """Measure all cases, one after the other."""
    rows = []
    for size in vocabulary:
        for step in steps:
            for whole in (True, False):
                case = [sys.executable, Path(__file__), "one", step, str(size), str(layers), *["--whole"] * whole]
                done = subprocess.run(case, check=True, stdout=subprocess.PIPE, text=True)
                label = {"vocabulary": size, "step": step, "logits": "whole" if whole else "chunks"}
                rows.append(label | json.loads(done.stdout.splitlines()[-1]))
                print(rows[-1], flush=True)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    app()
