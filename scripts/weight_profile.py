"""Rows and columns of every matrix: variances, norms, channels that stand out, heat maps and windows."""

from functools import partial
from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.families.pieces import load_piece
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.weight_profile import heat_maps, norms_by_layer, variances_by_layer, windows
from weight_atlas.settings.weights import WeightProfile
from weight_atlas.spectra.choice import choose_matrices
from weight_atlas.streamed.merging import in_order
from weight_atlas.weights.channels import NEEDED, channel_table, layer_variances
from weight_atlas.weights.matrix_windows import cell_map, of_rows, values_of, window_places
from weight_atlas.weights.part_file import read_part_rows
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    profile: Path,
    window_values: list[Path] | None = None,
    *,
    table: Path,
    channels: Path,
    figure: Path,
    norms: Path,
    maps: Path,
    zooms: Path,
    settings: WeightProfile,
) -> None:
    """Write the spread of rows and columns by matrix, the channels that stand out, and the figures.

    window_values: of a streamed model, what its parts have of them.
    """
    matrices, outliers = channel_table(read_part_rows(profile, NEEDED))
    write_table(table, matrices)
    write_table(channels, outliers)
    save_figure(figure, variances_by_layer(layer_variances(read_part_rows(profile, NEEDED))))
    save_figure(norms, norms_by_layer(matrices))
    chosen = choose_matrices(matrices, settings.matrices)["id"].tolist()
    drawn = {each.id: cell_map(each) for each in read_part_rows(profile) if each.id in chosen}
    save_figure(maps, heat_maps([drawn[name] for name in chosen]))
    if window_values:
        seen = of_rows(in_order(window_values))
    else:
        stored = read_table(inventory).set_index("id", drop=False).loc[matrices["id"]]
        places = window_places(stored, settings.windows, choose_matrices)
        seen = values_of(places, partial(load_piece, open_checkpoint(checkpoint)))
    save_figure(zooms, windows(seen))
    print(f"{len(matrices)} matrices, {len(outliers)} channels that stand out", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
