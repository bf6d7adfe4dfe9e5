"""Candidates for super weights from the weights alone."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.families.pieces import load_piece
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.super_weight_screening import screening
from weight_atlas.settings.super_weights import SuperWeightScreening
from weight_atlas.streamed.merging import in_order
from weight_atlas.super_weights.screening import screen, screened_rows
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    screened: list[Path] | None = None,
    *,
    table: Path,
    figure: Path,
    settings: SuperWeightScreening,
) -> None:
    """Write the largest weights of every MLP output projection of one model, with the scores of their rows.

    screened: of a streamed model, what its parts have of them.
    """
    if screened:
        largest = screened_rows(in_order(screened))
    else:
        opened = open_checkpoint(checkpoint)
        largest = screen(read_table(tensor_inventory), lambda row: load_piece(opened, row), top=settings.top)
    write_table(table, largest)
    save_figure(figure, screening(largest))


if __name__ == "__main__":
    run_step(main, globals())
