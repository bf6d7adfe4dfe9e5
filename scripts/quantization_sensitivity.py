"""What every quantization scheme costs every matrix, from the weights alone."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.figures.quantization import loss_by_channels, schemes_by_bits, sqnr_by_layer
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.quantization import QuantizationSensitivity
from weight_atlas.streamed.merging import in_order
from weight_atlas.weights.part_file import read_part_file
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    histograms: Path,
    errors: list[Path] | None = None,
    channels: list[Path] | None = None,
    *,
    table: Path,
    tensors: Path,
    of_schemes: Path,
    of_layers: Path,
    of_channels: Path,
    figure: Path,
    schemes_figure: Path,
    channels_figure: Path,
    settings: QuantizationSensitivity,
    threads: int = 1,
) -> None:
    """Write the errors by matrix, scheme, role and layer, what outlier channels cost, and the figures.

    errors, channels: of a streamed model, what its parts have of them.
    """
    from weight_atlas.checkpoint.manifest import open_checkpoint
    from weight_atlas.families.pieces import load_piece, matrices
    from weight_atlas.quantization.readiness import by_layer, by_scheme, by_tensor
    from weight_atlas.quantization.sensitivity import DISTRIBUTION, IDENTITY, Sensitivity, quantization_sensitivity

    if errors and channels:
        measured = Sensitivity.of(in_order(errors), in_order(channels))
    else:
        weights = open_checkpoint(checkpoint)
        found = {row.id: row for row in matrices(read_table(inventory)).itertuples(index=False)}
        parts = read_part_file(histograms, [*IDENTITY, *DISTRIBUTION])
        measured = quantization_sensitivity(parts, found, lambda row: load_piece(weights, row), settings, threads)
    by_schemes, by_layers = by_scheme(measured.errors), by_layer(measured.errors)
    written = {table: measured.errors, tensors: by_tensor(measured.errors), of_channels: measured.channels}
    for path, content in {**written, of_schemes: by_schemes, of_layers: by_layers}.items():
        write_table(path, content)
    save_figure(figure, sqnr_by_layer(by_layers, settings.drawn))
    save_figure(schemes_figure, schemes_by_bits(by_schemes))
    save_figure(channels_figure, loss_by_channels(measured.channels))
    print(by_schemes[by_schemes["role"] == "all"][["scheme", "bits", "sqnr_db", "loss_db"]].to_string(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
