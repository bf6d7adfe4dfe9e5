"""Perplexity of a model rounded as a recipe says, beside single types of that size and the model as it is."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.figures.recipe_perplexity import recipe_against_single_types
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.models import Live
from weight_atlas.settings.quantization import RecipePerplexity
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    recipe: Path,
    summary: Path,
    text: Path,
    *,
    table: Path,
    figure: Path,
    settings: RecipePerplexity,
    running: Live,
    threads: int = 1,
    device: str = "cpu",
) -> None:
    """Write a row for each variant, and the figure. recipe, summary: of quantization_recipe; text: the corpus."""
    from weight_atlas.ablations.recipe_perplexity import held_out_windows, recipe_perplexity
    from weight_atlas.ablations.recipe_variants import recipe_variants
    from weight_atlas.checkpoint.manifest import open_checkpoint
    from weight_atlas.families.pieces import matrices
    from weight_atlas.live.load import live_model
    from weight_atlas.quantization.recipes.gguf_names import names_for
    from weight_atlas.quantization.recipes.units import units_of

    types, about, rows = read_table(recipe), read_json(summary), read_table(inventory)
    weights = open_checkpoint(checkpoint)
    units = units_of(matrices(rows), about["format"], names_for(about["format"], weights.config, rows))
    live, tokenizer = live_model(weights, running, device=device)
    windows = held_out_windows(read_table(text), tokenizer, settings, limit=live.context, where=text)
    stacks = {part.stack for part in live.parts}
    variants = recipe_variants(units, types, about, rows, stacks, larger=settings.larger, threads=threads)
    parameters = int(rows.loc[rows["tied_to"] == "", "parameters"].sum())
    found = recipe_perplexity(live, windows, variants, parameters, batch_size=settings.batch_size)
    write_table(table, found)
    save_figure(figure, recipe_against_single_types(found, about["format"]))


if __name__ == "__main__":
    run_step(main, globals())
