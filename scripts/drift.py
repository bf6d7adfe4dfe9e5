"""How far a checkpoint's weights lie from those of the one before it in a series, and from the first."""

from functools import partial
from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.comparison.drift import drift
from weight_atlas.families.pieces import load_piece
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    previous_checkpoint: Path,
    previous_inventory: Path,
    first_checkpoint: Path,
    first_inventory: Path,
    *,
    table: Path,
) -> None:
    """Write the drift of every tensor of one checkpoint; each checkpoint is given with its inventory."""
    previous = read_table(previous_inventory), partial(load_piece, open_checkpoint(previous_checkpoint))
    first = read_table(first_inventory), partial(load_piece, open_checkpoint(first_checkpoint))
    # The second checkpoint is measured once.
    others = {"previous": previous, "first": previous if first_checkpoint == previous_checkpoint else first}
    found = drift(read_table(inventory), partial(load_piece, open_checkpoint(checkpoint)), others)
    write_table(table, found)
    print(f"{len(found)} tensors; {(found['equal_previous'] == 1).sum()} as they were", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
