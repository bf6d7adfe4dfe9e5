"""Perplexity of every ablation on the corpora of the evaluation, beside the unchanged model's."""

from pathlib import Path

import pandas as pd

from weight_atlas.ablations.impact import left_out
from weight_atlas.ablations.perplexity import perplexity_table
from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.errors import NotApplicable
from weight_atlas.figures import ablation_perplexity
from weight_atlas.figures.style import save_figure
from weight_atlas.not_applicable import applicable
from weight_atlas.workflow.step import run_step

NOTHING = pd.DataFrame({"variant": []})


def measured(description: Path, windows: Path) -> tuple[dict, pd.DataFrame]:
    """An ablation's description and windows; without variants if it does not apply to the model."""
    try:
        return read_json(description), read_table(windows)
    except NotApplicable as error:
        name = windows.parent.name
        return {"ablation": name, "variants": [], "skipped": [left_out(name, error.what)]}, NOTHING


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
    each, unchanged = len(windows) // len(corpora), applicable(baseline_windows)
    parts = []
    for number, (corpus, path) in enumerate(zip(corpora, baseline_windows, strict=True)):
        own = slice(number * each, (number + 1) * each)
        if path in unchanged:
            pairs = [measured(*pair) for pair in zip(descriptions[own], windows[own], strict=True)]
            parts.append(perplexity_table(corpus, unchanged[path], pairs))
    rows = pd.concat(parts, ignore_index=True)
    write_table(table, rows)
    save_figure(figure, ablation_perplexity.ablation_perplexity(rows))


if __name__ == "__main__":
    run_step(main, globals())
