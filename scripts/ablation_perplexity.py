"""Perplexity without the super weights, and without random weights of the same size."""

from pathlib import Path

from weight_atlas.checkpoint.checkpoint import open_checkpoint
from weight_atlas.figures import ablations
from weight_atlas.figures.style import save_figure
from weight_atlas.step import run_step
from weight_atlas.tables import read_json, read_table, write_table


def main(
    checkpoint: Path,
    super_weights: Path,
    text: Path,
    *,
    table: Path,
    figure: Path,
    corpus: str | None = None,
    window: int | None = None,
    tokens: int = 16384,
    batch_size: int = 8,
    draws: int = 10,
    seed: int = 0,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device: str = "cpu",
) -> None:
    """Write the perplexity table of one model and its figure.

    text: the corpus to evaluate on. window: tokens of a window, the model's context or 2048 if none is given.
    """
    from weight_atlas.evaluation.perplexity import ablation_perplexity
    from weight_atlas.lm.anatomy import anatomy
    from weight_atlas.lm.load import load_model, load_tokenizer
    from weight_atlas.lm.windows import corpus_windows
    from weight_atlas.super_weights.artifact import coordinates_of

    opened = open_checkpoint(checkpoint)
    tokenizer = load_tokenizer(opened, trust_remote_code=trust_remote_code)
    live = anatomy(load_model(opened, device=device, dtype=dtype, trust_remote_code=trust_remote_code))
    windows = corpus_windows(
        read_table(text), tokenizer, window=window, tokens=tokens, limit=live.context, where=corpus
    )
    coordinates = coordinates_of(read_json(super_weights), super_weights)
    rows = ablation_perplexity(live, windows, coordinates, draws=draws, seed=seed, batch_size=batch_size)
    write_table(table, rows)
    save_figure(figure, ablations.ablation_perplexity(rows))


if __name__ == "__main__":
    run_step(main, globals())
