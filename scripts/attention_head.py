"""Attention heads of a model: measures, labels, summaries, heat maps, and a close look at chosen heads."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.figures.attention_kernel import head_pages, kernel_maps
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.spectra import AttentionHead
from weight_atlas.spectra.attention_table import check_heads, head_table, summary_by_head, summary_by_layer
from weight_atlas.spectra.choice import choose_heads
from weight_atlas.workflow.step import run_step


def main(
    attention_kernel: Path,
    *,
    table: Path,
    by_head: Path,
    by_layer: Path,
    figure: Path,
    pages: Path,
    settings: AttentionHead,
) -> None:
    """Write the tables of one model's heads, their heat maps, and pages for chosen heads."""
    kernels = read_table(attention_kernel)
    check_heads(kernels)
    write_table(table, head_table(kernels))
    write_table(by_head, summary_by_head(kernels))
    write_table(by_layer, summary_by_layer(kernels))
    save_figure(figure, kernel_maps(kernels))
    save_figure(pages, head_pages(choose_heads(kernels, settings.heads)))


if __name__ == "__main__":
    run_step(main, globals())
