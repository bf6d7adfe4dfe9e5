"""Zeros and near-zeros, dead units, 2:4 patterns, repeated rows, and what magnitude pruning keeps."""

from functools import partial
from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.families.pieces import load_piece
from weight_atlas.figures.sparsity import pruning_and_masks
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.weights import Sparsity
from weight_atlas.streamed.merging import in_order
from weight_atlas.weights.part_file import read_part_file, read_part_rows
from weight_atlas.weights.sparsity import sparsity
from weight_atlas.weights.structured_sparsity import dead_experts, dead_units, near_methods, structure, with_structure
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    histograms: Path,
    profile: Path,
    structures: list[Path] | None = None,
    *,
    table: Path,
    curve: Path,
    experts: Path,
    figure: Path,
    settings: Sparsity,
) -> None:
    """Write the sparsity of one model's tensors, their pruning curves, its experts of zeros, and the figure.

    structures: of a streamed model, what its parts have of the structure of matrices.
    """
    tensors, pruned = sparsity(read_part_file(histograms))
    found = dead_units(read_part_rows(profile))
    stored = read_table(inventory).set_index("id", drop=False).loc[found["id"]]
    structured = in_order(structures) if structures else None
    if structured is None:
        load = partial(load_piece, open_checkpoint(checkpoint))
        structured = structure(stored, load, near_methods(stored, settings.near_rows_budget))
    found = found.merge(structured, on="id", how="left")
    tensors = with_structure(tensors, found)
    write_table(table, tensors)
    write_table(curve, pruned)
    write_table(experts, dead_experts(tensors))
    save_figure(figure, pruning_and_masks(tensors, pruned))
    off = tensors["near_method"].fillna("").str.startswith("off").sum()
    print(f"{len(found)} matrices; near-parallel rows were not looked for in {off} of them", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
