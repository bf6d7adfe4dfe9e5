"""Spectra of the attention kernels W_Q^T W_K and W_O W_V of every head."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.settings.spectra import AttentionKernel
from weight_atlas.spectra.attention_factors import norm_gains
from weight_atlas.spectra.attention_table import attention_kernels
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    *,
    table: Path,
    settings: AttentionKernel,
    threads: int = 1,
) -> None:
    """Write the spectra and measures of the QK and OV kernels of one model, a row per head."""
    from weight_atlas.checkpoint.manifest import open_checkpoint
    from weight_atlas.families.inventory import matrices
    from weight_atlas.families.pieces import load_gain, load_piece

    weights, tensors = open_checkpoint(checkpoint), read_table(inventory)
    gains = None
    if settings.fold_norm:
        gains = norm_gains(tensors, lambda row: load_gain(weights, row))
        print(f"gains of {len(gains)} norms before the attention", flush=True)
    kernels = attention_kernels(
        matrices(tensors), lambda row: load_piece(weights, row), gains=gains, scaled=settings.scaled, threads=threads
    )
    print(kernels["status"].value_counts().to_string() if len(kernels) else "no attention in this model", flush=True)
    write_table(table, kernels)


if __name__ == "__main__":
    run_step(main, globals())
