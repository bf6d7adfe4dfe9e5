"""What the same ablations cost different models."""

from pathlib import Path

import pandas as pd

from weight_atlas.artifacts import write_table
from weight_atlas.figures.ablation_impact import model_panels
from weight_atlas.figures.style import save_figure
from weight_atlas.not_applicable import applicable
from weight_atlas.workflow.step import run_step


def main(headlines: list[Path], *, table: Path, figure: Path, models: list[str]) -> None:
    """Write the main metrics of all models in one table, and their figure.

    headlines: of each of the models, in their order; those that do not apply are left out.
    """
    names = dict(zip(headlines, models, strict=True))
    tables = [rows.assign(model=names[path]) for path, rows in applicable(headlines).items()]
    rows = pd.concat(tables, ignore_index=True)
    rows.insert(0, "model", rows.pop("model"))
    write_table(table, rows)
    save_figure(figure, model_panels(rows))


if __name__ == "__main__":
    run_step(main, globals())
