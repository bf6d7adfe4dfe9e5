"""Close views of single weight matrices, W_down by default: energy per component, cumulative, milestones."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.figures.spectra_view import variance_explained
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.spectra import SpectrumView
from weight_atlas.spectra.choice import required_matrices
from weight_atlas.spectra.ranks import components_of, effective_ranks
from weight_atlas.workflow.step import run_step


def main(
    singular_values: Path,
    *,
    table: Path,
    components: Path,
    figure: Path,
    settings: SpectrumView,
) -> None:
    """Write the measures of chosen matrices of one model, all their components, and the figure."""
    chosen = required_matrices(read_table(singular_values), settings.matrices)
    ranks = effective_ranks(chosen)
    write_table(table, ranks)
    write_table(components, components_of(chosen))
    save_figure(figure, variance_explained(chosen, ranks))


if __name__ == "__main__":
    run_step(main, globals())
