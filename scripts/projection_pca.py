"""Principal components of every projection of some roles, and of its heads."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.embeddings import projections
from weight_atlas.embeddings.depth import depth_trends
from weight_atlas.families.pieces import load_piece, matrices
from weight_atlas.figures.projection_pca import component_views, components_by_layer
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.embeddings import ProjectionPca
from weight_atlas.spectra.choice import choose_matrices
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    *,
    table: Path,
    trends: Path,
    curves: Path,
    scores: Path,
    figure: Path,
    views: Path,
    settings: ProjectionPca,
) -> None:
    """Write how the variance of one model's projections is spread, its course with depth, and chosen ones in full."""
    opened, tensors = open_checkpoint(checkpoint), read_table(inventory)
    found = projections.projections(matrices(tensors), lambda row: load_piece(opened, row), settings.roles)
    measured = projections.component_table(found, settings)
    write_table(table, measured)
    whole = measured[measured["head"].isna()]
    write_table(trends, depth_trends(whole, ["stack", "component", "role"], ["first", "n90", "spread"]))
    made = projections.views(found, choose_matrices(whole, settings.matrices)["id"].tolist(), settings)
    write_table(curves, projections.curve_table(made))
    write_table(scores, projections.score_table(made))
    save_figure(figure, components_by_layer(measured))
    save_figure(views, component_views(made, projections.said(settings)))


if __name__ == "__main__":
    run_step(main, globals())
