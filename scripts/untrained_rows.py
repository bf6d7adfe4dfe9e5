"""Rows of embeddings that training never moved: tokens that the model does not know."""

from functools import partial
from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.errors import NotApplicable
from weight_atlas.families.pieces import load_piece
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.untrained_rows import norms_of_rows
from weight_atlas.settings.models import OwnCode
from weight_atlas.tokens.tokenizer import token_names
from weight_atlas.weights.vocabulary_matrices import untrained_tokens
from weight_atlas.workflow.step import run_step


def main(checkpoint: Path, inventory: Path, *, table: Path, matrices: Path, figure: Path, own: OwnCode) -> None:
    """Write the rows with signs of no training, and how many of each sign every matrix has beside what to expect."""
    opened, tensors = open_checkpoint(checkpoint), read_table(inventory)
    try:
        names = token_names(opened.folder, trust_remote_code=own.trust_remote_code)
    except NotApplicable:
        names = []
    rows, summary = untrained_tokens(tensors, partial(load_piece, opened), names, opened.config)
    write_table(table, rows[rows["signs"] != ""])
    write_table(matrices, summary)
    save_figure(figure, norms_of_rows(rows))
    for row in summary.itertuples():
        print(f"{row.id}: {row.untrained} of {row.rows} rows with signs of no training", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
