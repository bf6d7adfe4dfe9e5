"""Singular values of every weight matrix of a model: the parts put together."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.spectra.table import in_inventory_order
from weight_atlas.workflow.step import run_step


def main(parts: list[Path], inventory: Path, *, table: Path) -> None:
    """Write the spectra of one model, a row per matrix, in the order of its inventory."""
    write_table(table, in_inventory_order(list(map(read_table, parts)), read_table(inventory)))


if __name__ == "__main__":
    run_step(main, globals())
