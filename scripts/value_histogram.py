"""The exact distribution of the values of every tensor."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.families.pieces import load_piece
from weight_atlas.weights.histogram_table import histogram_parts, write_parts
from weight_atlas.weights.streaming import portions, skipped, value_histograms, warned
from weight_atlas.workflow.step import run_step


def main(checkpoint: Path, inventory: Path, *, table: Path, left_out: Path, threads: int = 1) -> None:
    """Write the value histogram of every tensor of one model, a row each, from one reading of its bytes.

    left_out: the tensors without one, with the reason.
    """
    tensors = read_table(inventory)
    work = portions(tensors, open_checkpoint(checkpoint), load_piece)
    rows = write_parts(table, histogram_parts(tensors, warned(value_histograms(work, threads))))
    without = skipped(tensors)
    write_table(left_out, without)
    print(f"{rows} histograms; {len(without)} tensors left out", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
