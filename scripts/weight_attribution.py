"""First-order effect of every weight on the loss, from one backward pass."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.weight_attribution import attribution
from weight_atlas.live.load import open_live
from weight_atlas.settings.models import Live
from weight_atlas.settings.super_weights import WeightAttribution
from weight_atlas.super_weights.weight_attribution import attributed, summary
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    text: Path,
    *,
    found: Path,
    effects: Path,
    table: Path,
    figure: Path,
    settings: WeightAttribution,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write the weights of one model that the loss depends on most, to first order, and their figure."""
    live, tokenizer = open_live(checkpoint, running, device=device)
    result = attributed(live, tokenizer, read_table(text), settings)
    write_json(found, summary(result))
    write_table(effects, result.table)
    write_table(table, result.first())
    save_figure(figure, attribution(result.table))


if __name__ == "__main__":
    run_step(main, globals())
