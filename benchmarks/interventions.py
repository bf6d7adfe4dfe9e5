"""What interventions cost: variants of a model restarted at their layer against one full forward pass each, and the
detection pass against the plain forward pass over the same prompts.

    python benchmarks/interventions.py --family llama --layers 12 --d-model 512 --vocabulary 32000 --threads 1

Families: llama, gemma2 (a norm follows the MLP), mixtral (stacked experts). Prints two tables. Losses are compared as
well: a faster route that is not the same is worth nothing.
"""

import time
from collections.abc import Callable

import cyclopts
import numpy as np
import pandas as pd
import torch

from weight_atlas.live.anatomy import Anatomy, Coordinate, anatomy
from weight_atlas.live.batched_scoring import score_edits
from weight_atlas.live.edits import zero
from weight_atlas.live.shortcuts import Shortcuts, shortcuts_of
from weight_atlas.live.windows import Windows, fixed_windows
from weight_atlas.settings.super_weights import SuperWeights
from weight_atlas.super_weights.detection import detect
from weight_atlas.super_weights.prompts import Prompts
from weight_atlas.super_weights.recording import record

app = cyclopts.App(help=__doc__)


FAMILIES = {
    "llama": {},
    "gemma2": {"query_pre_attn_scalar": 64, "head_dim": 64},
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
}


def random_model(family: str, layers: int, d_model: int, vocabulary: int, device: str) -> Anatomy:
    """A model with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    configuration = AutoConfig.for_model(
        family, vocab_size=vocabulary, hidden_size=d_model, intermediate_size=11 * d_model // 4,
        num_hidden_layers=layers, num_attention_heads=d_model // 64, num_key_value_heads=d_model // 64,
        max_position_embeddings=4096, **FAMILIES[family],
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(configuration).eval().requires_grad_(False)
    return anatomy(model.to(device, torch.bfloat16 if device == "cuda" else torch.float32))


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The least of some runs, after one to warm up: CPU seconds, which neighbours disturb little, or a GPU's own."""
    work()
    taken = []
    for _ in range(repeats):
        start = now()
        work()
        taken.append(now() - start)
    return min(taken)


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def every(windows: Windows, step: int) -> Windows:
    """The same windows with one token in `step` scored."""
    kept = torch.zeros_like(windows.scored)
    kept[:, ::step] = windows.scored[:, ::step]
    return Windows(windows.ids, kept)


def interventions(live: Anatomy, window: int, candidates: int, score_every: int, repeats: int) -> pd.DataFrame:
    """Seconds per route for candidates in the first third of the layers, spread evenly, and in the last third."""
    stream = np.random.default_rng(0).integers(5, 1000, 2 * window)
    windows = every(fixed_windows(stream, window=window), score_every).first(1)
    depth, rows = len(live.layers), []
    spreads = {"first third": (0, depth // 3), "even": (0, depth), "last third": (depth - depth // 3, depth)}
    for spread, layers in spreads.items():
        places = np.linspace(*layers, candidates, endpoint=False).astype(int)
        variants = [(zero(weight_of(live, layer, i)),) for i, layer in enumerate(places)]
        started = now()
        route = shortcuts_of(live, windows.ids[:1], variants)
        trial = now() - started
        full = score_edits(live, windows, variants, Shortcuts(), batch_size=16)
        base = None
        routes = {
            "full forward each": Shortcuts(),
            "restarted": Shortcuts(route.carried),
            "restarted within the layer": route,
        }
        for name, way in routes.items():
            if name == "restarted within the layer" and not route.added:
                continue
            taken = seconds(
                lambda way=way, variants=variants: score_edits(live, windows, variants, way, batch_size=16), repeats
            )
            base = base or taken
            scores = score_edits(live, windows, variants, way, batch_size=16)
            error = max(abs(a.nll - b.nll).max() / a.tokens.max() for a, b in zip(full, scores, strict=True))
            rows.append((spread, name, taken, base / taken, error, trial if way.carried else 0.0))
    columns = ["candidates", "route", "seconds", "times faster", "largest error, nats", "trial, once [s]"]
    return pd.DataFrame(rows, columns=columns)


def weight_of(live: Anatomy, layer: int, number: int) -> Coordinate:
    """Some weight of a layer's output projection."""
    projection = next(each for each in live.projections if each.layer == layer)
    return projection.coordinate(3, 5 + number, number % projection.n_experts if projection.stacked else None)


def detection(live: Anatomy, length: int, repeats: int) -> pd.DataFrame:
    """Seconds of the plain forward pass over eight prompts and of the pass that records, and of the attribution."""
    ids = torch.randint(5, 1000, (8, length), generator=torch.Generator().manual_seed(0))
    names = [["" for _ in row] for row in ids.tolist()]
    prompts = Prompts(ids, torch.ones_like(ids, dtype=torch.bool), [True] * 8, list(range(8)), names)
    device = live.model.get_input_embeddings().weight.device
    with torch.no_grad():
        plain = seconds(lambda: live.model(input_ids=ids.to(device), use_cache=False), repeats)
        recorded = seconds(lambda: record(live, prompts), repeats)
        whole = seconds(lambda: detect(live, record(live, prompts), SuperWeights()), repeats)
    rows = [
        ("plain forward", plain, 1.0),
        ("recording", recorded, recorded / plain),
        ("detection", whole, whole / plain),
    ]
    return pd.DataFrame(rows, columns=["pass over 8 prompts", "seconds", "times the plain pass"])


@app.default
def main(
    family: str = "llama", layers: int = 12, d_model: int = 512, vocabulary: int = 32000, window: int = 256,
    candidates: int = 16, score_every: int = 8, prompt: int = 24, repeats: int = 3, threads: int = 1,
    device: str = "cpu",
) -> None:  # fmt: skip
    """Measure on a random model."""
    torch.set_num_threads(threads)
    live = random_model(family, layers, d_model, vocabulary, device)
    print(f"{family}, {layers} layers, d_model {d_model}, vocabulary {vocabulary}, {device}, {threads} threads")
    print(
        interventions(live, window, candidates, score_every, repeats).to_string(
            index=False, float_format="{:.3g}".format
        )
    )
    print(detection(live, prompt, repeats).to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    app()
