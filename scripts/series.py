"""Every scalar of the atlas over the checkpoints of a series, their drift, and when super weights arise."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.figures.series import metric_panels, series_panels
from weight_atlas.figures.style import save_figure
from weight_atlas.not_applicable import if_applicable
from weight_atlas.series.tables import of_analyses, series, shown
from weight_atlas.workflow.step import run_step


def main(
    scalars: list[Path],
    drifts: list[Path] | None = None,
    detected: list[Path] | None = None,
    verified: list[Path] | None = None,
    *,
    table: Path,
    trends: Path,
    drift: Path,
    arisen: Path,
    summary: Path,
    figure: Path,
    figures: Path,
    models: list[str],
    steps: list[int],
) -> None:
    """Write the tables and figures of one series. Files of a checkpoint are named like its model, of those that have
    them; drifts: of all models but the first, in order.
    """
    detections, verifications = (
        [if_applicable(known[model]) if model in known else None for model in models]
        for known in ({path.stem: path for path in given or []} for given in (detected, verified))
    )
    all_scalars, all_drifts = ([read_table(path) for path in paths] for paths in (scalars, drifts or []))
    found = series(all_scalars, all_drifts, detections, verifications, models, steps)
    for path, rows in ((table, found.course), (trends, found.trends), (drift, found.drift), (arisen, found.arisen)):
        write_table(path, rows)
    write_json(summary, found.summary)
    save_figure(figure, series_panels(shown(found), found.drift, found.names, steps))
    figures.mkdir(parents=True, exist_ok=True)
    for name, courses in of_analyses(found).items():
        save_figure(figures / f"{name}.png", metric_panels(courses, found.names, steps))


if __name__ == "__main__":
    run_step(main, globals())
