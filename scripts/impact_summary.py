"""What every ablation costs a model, on every task: tables by ablation, of all, and of the scaling sweep."""

from pathlib import Path

import pandas as pd

from weight_atlas.ablations.impact import by_factor, headlines
from weight_atlas.ablations.impact_files import Measured, impact_of
from weight_atlas.artifacts import read_table, write_table
from weight_atlas.errors import NotApplicable
from weight_atlas.figures.ablation_impact import impact_panels
from weight_atlas.figures.ablation_scaling import scaling_curves
from weight_atlas.figures.style import save_figure
from weight_atlas.not_applicable import applicable, left_without
from weight_atlas.settings.ablations import AblationImpact
from weight_atlas.workflow.step import run_step


def main(
    scores: list[Path],
    documents: list[Path],
    descriptions: list[Path],
    windows: list[Path],
    *,
    impacts: Path,
    table: Path,
    headline: Path,
    figure: Path,
    sweep: Path,
    sweep_figure: Path,
    settings: AblationImpact,
    ablations: list[str],
) -> None:
    """Write the impact table of each ablation, all their rows, those of each task's main metric, and the figures.

    scores, documents: of each ablation and task, the unchanged model's among them; descriptions, windows: of each
    ablation and corpus. Each lies in a folder named like its ablation. impacts: a folder with a table of each ablation.
    sweep: over the factors of the scaling sweep, a factor of 1 being the unchanged model.
    """
    given = Measured(scores, documents, descriptions, windows)
    tables = [impacts / f"{ablation}.csv" for ablation in ablations]
    for path in tables:
        with left_without([path]):
            write_table(path, impact_of(path.stem, given, settings))
    with left_without([sweep, sweep_figure]):
        if "scaling_sweep" not in ablations:
            raise NotApplicable("no analysis of the model asks for the scaling sweep")
        curves = by_factor(read_table(impacts / "scaling_sweep.csv"))
        write_table(sweep, curves)
        save_figure(sweep_figure, scaling_curves(curves))
    rows = pd.concat(applicable(tables).values(), ignore_index=True)
    write_table(table, rows)
    write_table(headline, headlines(rows))
    save_figure(figure, impact_panels(headlines(rows)))


if __name__ == "__main__":
    run_step(main, globals())
