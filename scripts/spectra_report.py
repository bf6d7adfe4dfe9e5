"""The spectra of one model as one Markdown page, with figures and every number."""

import os
from pathlib import Path

from weight_atlas.artifacts import read_table, write_text
from weight_atlas.not_applicable import reason_of
from weight_atlas.settings.spectra import AttentionHead, SpectrumView
from weight_atlas.spectra.report import Spectra, spectra_report
from weight_atlas.workflow.step import run_step


def main(
    inventory: Path,
    singular_values: Path,
    attention_kernel: Path,
    ranks: Path,
    statistics: Path,
    phase_statistics: Path,
    trends: Path,
    ranks_figure: Path,
    kernels_figure: Path,
    heads_figure: Path,
    matrices_figure: Path,
    *,
    page: Path,
    model: str = "model",
    attention: AttentionHead,
    view: SpectrumView,
) -> None:
    """Write the page, with the heads and matrices that have close views."""
    tables = (inventory, singular_values, attention_kernel, ranks, statistics, phase_statistics, trends)
    figures = {"ranks": ranks_figure, "kernels": kernels_figure, "heads": heads_figure, "matrices": matrices_figure}
    links = {
        name: Path(os.path.relpath(path, page.parent)).as_posix()
        for name, path in figures.items()
        if reason_of(path) is None
    }
    spectra = Spectra(*map(read_table, tables))
    write_text(page, spectra_report(model, spectra, heads=attention.heads, matrices=view.matrices, figures=links))


if __name__ == "__main__":
    run_step(main, globals())
