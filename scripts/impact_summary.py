"""What every ablation costs a model, on every task, in one table and one figure."""

from pathlib import Path

import pandas as pd

from weight_atlas.ablations.impact import headlines
from weight_atlas.artifacts import write_table
from weight_atlas.figures.ablation_impact import impact_panels
from weight_atlas.figures.style import save_figure
from weight_atlas.not_applicable import applicable
from weight_atlas.workflow.step import run_step


def main(impacts: list[Path], *, table: Path, headline: Path, figure: Path) -> None:
    """Write all rows of the impact tables, those of each task's main metric, and the figure of the latter."""
    rows = pd.concat(applicable(impacts).values(), ignore_index=True)
    write_table(table, rows)
    write_table(headline, headlines(rows))
    save_figure(figure, impact_panels(headlines(rows)))


if __name__ == "__main__":
    run_step(main, globals())
