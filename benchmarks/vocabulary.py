"""What vocabulary analyses cost: side by side with the published way on the bundled model, and against their products.

    python benchmarks/vocabulary.py --threads 1

interventions: ten coordinates with bootstrap intervals. The published way evaluates baseline, edit, one random
coordinate and the whole neuron by full forward passes, and runs baseline and edit again on every resample of the
windows. Resamples are timed a few times and counted `--bootstrap` times, since all of them would take hours. Ours
measures every window once, takes fifty random coordinates (on fewer windows) instead of one, and resamples the sums.
scan: moments and top tokens of all neurons against the bare product W_U @ W_down of the same size, in the same type.
enrichment: one neuron, eight classes, vocabulary of 150,000.
"""

import time
from collections.abc import Callable
from pathlib import Path

import cyclopts
import numpy as np
import pandas as pd
import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.live.anatomy import Anatomy, Coordinate, anatomy
from weight_atlas.live.edits import edited, zero
from weight_atlas.live.load import load_model
from weight_atlas.live.scoring import score_windows
from weight_atlas.live.windows import Windows
from weight_atlas.settings.vocabulary import Interventions
from weight_atlas.settings.vocabulary import Windows as WindowSettings
from weight_atlas.tokens.python_docs import python_docs
from weight_atlas.tokens.tokenizer import load_tokenizer
from weight_atlas.vocabulary.enrichment import enrichment, prepare_classes
from weight_atlas.vocabulary.interventions import measure_interventions
from weight_atlas.vocabulary.neuron_scan import prepare, scan_block
from weight_atlas.vocabulary.prediction_measures import prediction_measure
from weight_atlas.vocabulary.readout import Readout
from weight_atlas.vocabulary.super_weight_cards import weight_card
from weight_atlas.vocabulary.windows import sliding_windows, windows_for

MODEL = Path(__file__).parents[1] / "src/weight_atlas/data/demo/model"
app = cyclopts.App(help=__doc__)


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """The fastest of some runs."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def ten_coordinates() -> list[Coordinate]:
    """The bundled model's super weight and nine more weights, over all layers."""
    random = np.random.default_rng(0)
    others = [Coordinate(n % 4, int(random.integers(128)), int(random.integers(384))) for n in range(9)]
    return [Coordinate(1, 7, 11), *others]


def ours(live: Anatomy, windows: Windows, places: list[Coordinate], draws: int, control_tokens: int, samples: int):
    """Everything that a card holds, for all places."""
    measure = prediction_measure(torch.arange(100))
    found = measure_interventions(
        live,
        windows,
        places,
        measure,
        Interventions(draws=draws),
        factor=0.0,
        control_windows=windows_for(windows, control_tokens),
    ).windows
    for target in range(len(places)):
        weight_card(found, target, samples=samples, seed=0)


def published(live: Anatomy, windows: Windows, place: Coordinate) -> tuple[float, float]:
    """Seconds of one coordinate's evaluations, and of one resample of the windows."""
    measure = prediction_measure(torch.arange(100))
    neuron = Coordinate(place.layer, None, place.col)
    random = Coordinate(place.layer, 3, 5)

    def evaluations() -> None:
        for edits in ([], [zero(place)], [zero(random)], [zero(neuron)]):
            with edited(live, edits):
                score_windows(live, windows, batch_size=8, measure=measure)

    def resample() -> None:
        drawn = torch.randint(len(windows), (len(windows),))
        chosen = Windows(windows.ids[drawn], windows.scored[drawn])
        for edits in ([], [zero(place)]):
            with edited(live, edits):
                score_windows(live, chosen, batch_size=8, measure=measure)

    return seconds(evaluations), seconds(resample, 3)


def interventions(tokens: int, bootstrap: int, draws: int, control_tokens: int) -> pd.DataFrame:
    """Ten coordinates on the bundled model, both ways."""
    checkpoint = Checkpoint.from_folder(MODEL)
    live, tokenizer = (
        anatomy(load_model(checkpoint, dtype="auto", trust_remote_code=False)),
        load_tokenizer(checkpoint.folder, trust_remote_code=False),
    )
    windows, _ = sliding_windows(
        python_docs("test"),
        tokenizer,
        WindowSettings(tokens=tokens, window_len=256),
        context=live.context,
        where="bundled",
    )
    places = ten_coordinates()
    published(live, windows.first(2), places[0])
    evaluations, resample = published(live, windows, places[0])
    theirs = len(places) * (evaluations + bootstrap * resample)
    mine = seconds(lambda: ours(live, windows, places, draws, control_tokens, bootstrap))
    plain = len(places) * evaluations
    return pd.DataFrame(
        [
            {"what": f"10 coordinates, {bootstrap} resamples, published way", "seconds": theirs, "ratio": 1.0},
            {"what": "of it without any resample", "seconds": plain, "ratio": theirs / plain},
            {"what": f"ours, with {draws} random draws each", "seconds": mine, "ratio": theirs / mine},
        ]
    )


def scans(sizes: list[tuple[int, int, int]]) -> pd.DataFrame:
    """The scan of n neurons against the bare product, for (V, d_model, n)."""
    rows = []
    for V, d_model, n in sizes:
        torch.manual_seed(0)
        W_U, W_down = torch.randn(V, d_model), torch.randn(d_model, n) / d_model**0.5
        readout = Readout(W_U, False)
        scan_block(prepare(readout, np.ones(V, bool)), W_down[:, :8])
        chunk = max(8, min(n, (1 << 28) // (4 * V)))
        vocabulary = prepare(readout, np.ones(V, bool))
        product = seconds(lambda W_U=W_U, W_down=W_down, c=chunk: [W_U @ part for part in W_down.split(c, dim=1)], 3)
        scanned = seconds(lambda vocabulary=vocabulary, W_down=W_down: scan_block(vocabulary, W_down), 3)
        once = seconds(lambda readout=readout, V=V: prepare(readout, np.ones(V, bool)))
        rows.append({"V": V, "d_model": d_model, "neurons": n, "product": product, "scan": scanned,
                     "ratio": scanned / product, "once per model": once})  # fmt: skip
    return pd.DataFrame(rows)


def enrichments(V: int = 150_000) -> pd.DataFrame:
    """One neuron's enrichment, with class sizes as large vocabularies have them."""
    random, sizes = np.random.default_rng(0), (1100, 300, 60, 70_000, 45_000, 120, 3000, 500)
    matrix = np.zeros((V, len(sizes)), bool)
    for column, size in enumerate(sizes):
        matrix[random.choice(V, size, replace=False), column] = True
    effects = random.standard_normal(V)
    started = time.perf_counter()
    classes = prepare_classes([str(size) for size in sizes], matrix, np.arange(V))
    once = time.perf_counter() - started
    return pd.DataFrame([{"V": V, "milliseconds": 1e3 * seconds(lambda: enrichment(effects, classes), 10),
                          "once per model": 1e3 * once}])  # fmt: skip


@app.default
def main(
    *, threads: int = 1, tokens: int = 8192, bootstrap: int = 500, draws: int = 50, control_tokens: int = 1024
) -> None:
    """Print three tables."""
    torch.set_num_threads(threads)
    sizes = [(2048, 128, 1536), (32_000, 512, 4096), (50_304, 768, 3072), (32_000, 2048, 2048), (128_000, 2048, 1024)]
    print(f"scan\n{_shown(scans(sizes))}\n\nenrichment\n{_shown(enrichments())}", flush=True)
    print(f"\ninterventions\n{_shown(interventions(tokens, bootstrap, draws, control_tokens))}", flush=True)


def _shown(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format=lambda value: f"{value:.4g}")


if __name__ == "__main__":
    app()
