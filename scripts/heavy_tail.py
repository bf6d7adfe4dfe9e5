"""Heavy tails of every weight matrix: power law, random bulk, norms, and a model's summary."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.figures.heavy_tail import alpha_by_layer, spectral_densities
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.spectra import HeavyTail
from weight_atlas.spectra.choice import choose_matrices
from weight_atlas.spectra.heavy_tails import heavy_tails, tail_summary, with_spectra
from weight_atlas.workflow.step import run_step


def main(
    singular_values: Path,
    *,
    table: Path,
    summary: Path,
    figure: Path,
    densities: Path,
    settings: HeavyTail,
) -> None:
    """Write the heavy-tail measures of one model, their summary and figures."""
    spectra = read_table(singular_values)
    tails = heavy_tails(spectra, settings)
    write_table(table, tails)
    write_json(summary, tail_summary(tails))
    save_figure(figure, alpha_by_layer(tails))
    save_figure(
        densities, spectral_densities(with_spectra(choose_matrices(tails, settings.matrices), spectra, settings))
    )
    print(tails["status"].value_counts().to_string(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
