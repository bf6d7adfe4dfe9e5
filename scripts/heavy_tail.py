"""Heavy tails of every weight matrix: power law, random bulk, norms, and a model's summary."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.figures.heavy_tail import alpha_by_layer, spectral_densities
from weight_atlas.figures.style import save_figure
from weight_atlas.spectra.choice import choose_matrices
from weight_atlas.spectra.heavy_tails import TailSettings, heavy_tails, tail_summary, with_spectra
from weight_atlas.workflow.step import run_step


def main(
    singular_values: Path,
    *,
    table: Path,
    summary: Path,
    figure: Path,
    densities: Path,
    min_tail: int = 10,
    min_tail_share: float = 0.1,
    threshold: float | None = None,
    bootstrap: int = 50,
    matrices: list[str] = ["W_down:first", "W_down:middle", "W_down:last"],  # noqa: B006
) -> None:
    """Write the heavy-tail measures of one model, their summary and figures.

    min_tail, min_tail_share: a tail has at least so many eigenvalues and such a share of them. threshold: eigenvalues
    up to it are left out (default: the rounding floor). bootstrap: samples for the p-value, 0 for none. matrices: the
    ones whose spectra are drawn, each ROLE, ROLE:LAYER or ROLE:LAYER:EXPERT.
    """
    spectra = read_table(singular_values)
    settings = TailSettings(min_tail, min_tail_share, threshold, bootstrap)
    tails = heavy_tails(spectra, settings)
    write_table(table, tails)
    write_json(summary, tail_summary(tails))
    save_figure(figure, alpha_by_layer(tails))
    save_figure(densities, spectral_densities(with_spectra(choose_matrices(tails, matrices), spectra, settings)))
    print(tails["status"].value_counts().to_string(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
