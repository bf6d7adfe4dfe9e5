"""For a size, the types of all parts of a model with the least error, and the files that the tool reads."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_json, write_table, write_text
from weight_atlas.figures.recipes import types_by_layer
from weight_atlas.figures.style import save_figure
from weight_atlas.not_applicable import if_applicable
from weight_atlas.settings.quantization import Recipe
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    moments: Path,
    super_weights: Path | None = None,
    *,
    table: Path,
    summary: Path,
    figure: Path,
    files: Path,
    settings: Recipe,
    threads: int = 1,
) -> None:
    """Write the recipe by unit, its size and noise, a figure, and a folder of files for the tool."""
    from weight_atlas.checkpoint.manifest import open_checkpoint
    from weight_atlas.families.pieces import load_gain, load_piece, matrices
    from weight_atlas.quantization.recipes import files as written
    from weight_atlas.quantization.recipes.gguf_names import names_for
    from weight_atlas.quantization.recipes.importance import importance_of
    from weight_atlas.quantization.recipes.recipe import allocated, spared_ids
    from weight_atlas.quantization.recipes.units import head_name, units_of

    weights, rows = open_checkpoint(checkpoint), read_table(inventory)
    units = units_of(matrices(rows), settings.format, names_for(settings.format, weights.config, rows))
    importance = importance_of(rows, lambda row: load_gain(weights, row), if_applicable(moments))
    spared = spared_ids(rows, if_applicable(super_weights, read_json) if super_weights else None)
    found = allocated(units, rows, lambda row: load_piece(weights, row), importance, spared, settings, threads)
    for name, text in written.files(settings.format, found.chosen, head_name(rows)).items():
        write_text(files / name, text)
    write_table(table, found.table)
    write_json(summary, found.summary)
    save_figure(figure, types_by_layer(found.table, found.summary))
    print(found.table["type"].value_counts().to_string(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
