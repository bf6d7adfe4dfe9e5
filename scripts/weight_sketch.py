"""A sketch of a model's weights: of each matrix a few thousand elements, at places that only its shape decides."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.comparison.sketch import sketch
from weight_atlas.workflow.step import run_step


def main(checkpoint: Path, inventory: Path, *, table: Path) -> None:
    """Write the sampled elements of every matrix of a model."""
    write_table(table, sketch(open_checkpoint(checkpoint), read_table(inventory)))


if __name__ == "__main__":
    run_step(main, globals())
