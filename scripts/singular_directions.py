"""Singular directions of W_OV and W_down read as tokens, with the share of energy of each."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.figures.singular_directions import directions_figure
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.circuits import SingularDirections
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    token_classes: Path,
    *,
    found: Path,
    table: Path,
    figure: Path,
    settings: SingularDirections,
) -> None:
    """Write the first directions of every head and feed-forward part, the telling ones as a table, and the figure."""
    from weight_atlas.checkpoint.manifest import open_checkpoint
    from weight_atlas.circuits.directions import singular_directions, telling
    from weight_atlas.circuits.of_checkpoint import norms_of
    from weight_atlas.circuits.reading import token_reader

    opened, tensors = open_checkpoint(checkpoint), read_table(inventory)
    reader = token_reader(opened, tensors, read_table(token_classes))
    print(f"read through {len(reader.ids)} tokens; rows left out: {reader.left_out}", flush=True)
    written = singular_directions(
        opened,
        tensors,
        reader,
        norms_of(opened, tensors),
        directions=settings.directions,
        tokens=settings.tokens,
    )
    write_table(found, written)
    write_table(table, telling(written, settings.shown))
    save_figure(figure, directions_figure(written))


if __name__ == "__main__":
    run_step(main, globals())
