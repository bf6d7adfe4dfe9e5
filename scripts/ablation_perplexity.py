"""Perplexity of every ablation on the corpora of the evaluation, beside the unchanged model's."""

from pathlib import Path

import pandas as pd

from weight_atlas.evaluation.perplexity import perplexity_table
from weight_atlas.figures import ablations
from weight_atlas.figures.style import save_figure
from weight_atlas.step import run_step
from weight_atlas.tables import read_json, read_table, write_table


def main(
    baseline_windows: list[Path],
    windows: list[Path],
    descriptions: list[Path],
    *,
    table: Path,
    figure: Path,
    corpora: list[str],
) -> None:
    """Write the perplexity table of one model and its figure.

    baseline_windows: one a corpus. windows, descriptions: all ablations' on the first corpus, then on the next.
    """
    pairs = list(zip(map(read_json, descriptions), map(read_table, windows), strict=True))
    each = len(pairs) // len(corpora)
    rows = pd.concat(
        [
            perplexity_table(corpus, read_table(path), pairs[number * each : (number + 1) * each])
            for number, (corpus, path) in enumerate(zip(corpora, baseline_windows, strict=True))
        ],
        ignore_index=True,
    )
    write_table(table, rows)
    save_figure(figure, ablations.ablation_perplexity(rows))


if __name__ == "__main__":
    run_step(main, globals())
