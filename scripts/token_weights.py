"""Learned token weights: their distribution, what is wrong with it, and the tokens at its ends."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_array, write_json, write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.token_weights import weight_histogram
from weight_atlas.figures.weights import value_cdf_panels
from weight_atlas.numbers_of import number_of
from weight_atlas.settings.token_weights import Vector
from weight_atlas.token_weights.study import read_vector, study
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path | None = None,
    inventory: Path | None = None,
    fetched: Path | None = None,
    classes: Path | None = None,
    tokenizer: Path | None = None,
    *,
    tokens: Path,
    summary: Path,
    table: Path,
    diagnoses: Path,
    extremes: Path,
    best_of_columns: Path,
    pruning: Path,
    pruned: Path,
    figure: Path,
    histogram: Path,
    settings: Vector,
) -> None:
    """Write the weights of all tokens, what they amount to, and the pruned vector.

    checkpoint, inventory: of the model whose rows they are; without them the weights are read from the source; fetched:
    the manifest of one on the hub. classes: what the tokens are, of a model; tokenizer: the manifest of one alone.
    """
    read = read_vector(settings, checkpoint, inventory, fetched)
    found = study(read, settings, read_table(classes) if classes else None, tokenizer)
    write_table(tokens, found.tokens)
    write_table(table, found.statistics)
    write_table(diagnoses, found.diagnoses)
    write_table(extremes, found.extremes)
    write_table(best_of_columns, found.columns)
    write_table(pruning, found.pruning)
    write_array(pruned, found.pruned)
    write_json(summary, found.summary)
    save_figure(figure, value_cdf_panels(found.cdf, found.label))
    save_figure(histogram, weight_histogram(found.used, found.label))
    print(f"{number_of(len(found.tokens), 'weight')}: {read.made_of}; {found.summary['shape']}", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
