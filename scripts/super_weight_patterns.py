"""Super weights of all models: how many, of which kind, how deep, and which share a channel or a neuron."""

from pathlib import Path

import pandas as pd

from weight_atlas.artifacts import read_json, write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.super_weight_patterns import patterns
from weight_atlas.not_applicable import applicable, reason_of
from weight_atlas.super_weights.patterns import models_table, weights_table
from weight_atlas.workflow.step import run_step


def main(verdicts: list[Path], summaries: list[Path], *, table: Path, weights: Path, figure: Path) -> None:
    """Write the table of models, that of their weights, and the figure. Models are named as the files.

    verdicts: of the verification; summaries: of the architecture, of the same models.
    """
    found = {path.stem: content for path, content in applicable(verdicts, read_json).items()}
    about = {path.stem: read_json(path)["configuration"] for path in summaries}
    tables = {name: weights_table(name, verdict, about[name]) for name, verdict in found.items()}
    left_out = {path.stem: reason_of(path) or "" for path in verdicts if path.stem not in found}
    models, each = models_table(tables, found, about, left_out), pd.concat(tables.values(), ignore_index=True)
    write_table(table, models)
    write_table(weights, each)
    save_figure(figure, patterns(models, each))


if __name__ == "__main__":
    run_step(main, globals())
