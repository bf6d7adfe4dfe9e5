"""Spectra of the attention kernels W_Q^T W_K and W_O W_V of every head."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.settings.spectra import AttentionKernel
from weight_atlas.spectra.attention_factors import norm_gains
from weight_atlas.spectra.attention_table import attention_kernels
from weight_atlas.streamed.merging import in_order
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    kernels: list[Path] | None = None,
    *,
    table: Path,
    settings: AttentionKernel,
    threads: int = 1,
) -> None:
    """Write the spectra and measures of the QK and OV kernels of one model, a row per head.

    kernels: of a streamed model, what its parts have of them.
    """
    from weight_atlas.checkpoint.manifest import open_checkpoint
    from weight_atlas.families.pieces import load_gain, load_piece, matrices

    weights, tensors = open_checkpoint(checkpoint), read_table(inventory)
    found = in_order(kernels) if kernels else None
    gains = None
    if settings.fold_norm and found is None:
        gains = norm_gains(tensors, lambda row: load_gain(weights, row))
        print(f"gains of {len(gains)} norms before the attention", flush=True)
    if found is None:
        found = attention_kernels(
            matrices(tensors),
            lambda row: load_piece(weights, row),
            gains=gains,
            scaled=settings.scaled,
            threads=threads,
        )
    print(found["status"].value_counts().to_string() if len(found) else "no attention in this model", flush=True)
    write_table(table, found)


if __name__ == "__main__":
    run_step(main, globals())
