"""Singular values of the weight matrices that one part of the work takes."""

from pathlib import Path
from typing import NoReturn

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.spectra.table import share_of, singular_value_table
from weight_atlas.workflow.step import run_step


def no_matrix(row: object) -> NoReturn:
    """Stands in for reading where a part has no matrix."""
    raise AssertionError(f"{row} is of no part")


def main(
    checkpoint: Path,
    inventory: Path,
    *,
    part: Path,
    scatteritem: str,
    threads: int = 1,
    device: str = "cpu",
    memory_mb: int = 200,
) -> None:
    """Write the spectra of part K of N of a model's matrices, shared out by cost.

    scatteritem: "K-of-N". memory_mb: what the matrices worked on at once may take beyond the largest of them in
    float64 and its Gram matrix.
    """
    from weight_atlas.families.pieces import matrices

    number, count = (int(number) for number in scatteritem.split("-of-"))
    share = share_of(matrices(read_table(inventory)), number, count)
    print(f"part {scatteritem}: {len(share)} matrices", flush=True)
    if share.empty:  # reading weights needs torch, which takes seconds to import
        write_table(part, singular_value_table(share, no_matrix))
        return

    from weight_atlas.checkpoint.manifest import open_checkpoint
    from weight_atlas.families.pieces import load_piece

    weights = open_checkpoint(checkpoint)
    table = singular_value_table(
        share,
        lambda row: load_piece(weights, row),
        threads=threads,
        memory_bytes=memory_mb * 1_000_000,
        device=device,
    )
    print(table["method"].value_counts().to_string(), flush=True)
    write_table(part, table)


if __name__ == "__main__":
    run_step(main, globals())
