"""Effective rank of every weight matrix, by layer and role, and close views of single ones, W_down by default."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.figures.spectra_ranks import rank_by_layer
from weight_atlas.figures.spectra_view import variance_explained
from weight_atlas.figures.style import save_figure
from weight_atlas.not_applicable import left_without
from weight_atlas.settings.spectra import EffectiveRank, SpectrumView
from weight_atlas.spectra.choice import required_matrices
from weight_atlas.spectra.ranks import components_of, effective_ranks, notebook_view
from weight_atlas.spectra.trends import phase_table, statistics_by_role, trend_table
from weight_atlas.workflow.step import run_step


def main(
    singular_values: Path,
    *,
    table: Path,
    statistics: Path,
    layers: Path,
    phase_statistics: Path,
    trends: Path,
    figure: Path,
    view: Path,
    components: Path,
    view_figure: Path,
    settings: EffectiveRank,
    viewed: SpectrumView,
) -> None:
    """Write all rank measures of one model, their statistics by role, phases and trends, and the figure.

    layers: the view with the columns layer_idx, weight_type, shape, eff_rank. view: the measures of chosen matrices;
    components: all of theirs.
    """
    values = read_table(singular_values)
    ranks = effective_ranks(values)
    write_table(table, ranks)
    write_table(statistics, statistics_by_role(ranks))
    write_table(layers, notebook_view(ranks))
    write_table(phase_statistics, phase_table(ranks, settings.phases))
    write_table(trends, trend_table(ranks, settings.phases))
    save_figure(figure, rank_by_layer(ranks))
    print(ranks["status"].value_counts().to_string(), flush=True)
    with left_without([view, components, view_figure]):
        chosen = required_matrices(values, viewed.matrices)
        write_table(view, effective_ranks(chosen))
        write_table(components, components_of(chosen))
        save_figure(view_figure, variance_explained(chosen, effective_ranks(chosen)))


if __name__ == "__main__":
    run_step(main, globals())
