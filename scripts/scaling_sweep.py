"""Perplexity and accuracies with the super weights scaled."""

from pathlib import Path

from weight_atlas.ablations.impact import by_factor
from weight_atlas.artifacts import read_table, write_table
from weight_atlas.figures.ablation_scaling import scaling_curves
from weight_atlas.figures.style import save_figure
from weight_atlas.workflow.step import run_step


def main(impact: Path, *, table: Path, figure: Path) -> None:
    """Write the curves of one model over the factors, a factor of 1 being the unchanged model, and their figure."""
    curves = by_factor(read_table(impact))
    write_table(table, curves)
    save_figure(figure, scaling_curves(curves))


if __name__ == "__main__":
    run_step(main, globals())
