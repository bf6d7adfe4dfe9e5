"""Cumulative distribution of the weights, by role and layer."""

from pathlib import Path

from weight_atlas.artifacts import write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.weights import cdf_by_role
from weight_atlas.weights.cdf import weight_cdf
from weight_atlas.weights.part_file import read_part_file
from weight_atlas.workflow.step import run_step


def main(histograms: Path, *, table: Path, figure: Path) -> None:
    """Write the CDFs of one model's matrices at fixed probabilities, and their figure: full range and p5 to p95."""
    cdf = weight_cdf(read_part_file(histograms))
    write_table(table, cdf)
    save_figure(figure, cdf_by_role(cdf))


if __name__ == "__main__":
    run_step(main, globals())
