"""Super activations: the tokens at which they arise, and the attention that their positions draw."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.figures import super_activations as figures
from weight_atlas.figures.style import save_figure
from weight_atlas.live.load import open_live
from weight_atlas.live.windows import drawn_windows
from weight_atlas.settings.models import Live
from weight_atlas.settings.super_weights import SuperActivations
from weight_atlas.super_weights.artifact import coordinates_of
from weight_atlas.super_weights.super_activations import super_activations
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    super_weights: Path,
    text: Path,
    *,
    places: Path,
    sinks: Path,
    figure: Path,
    settings: SuperActivations,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write where the super activations of one model arise, the attention on these places by layer, and a figure."""
    live, tokenizer = open_live(checkpoint, running, device=device, attention="eager")
    length = min(settings.window, live.context or settings.window)
    windows = drawn_windows(
        read_table(text), tokenizer, window=length, tokens=settings.tokens, limit=live.context, where=settings.corpus,
        seed=settings.seed,
    )  # fmt: skip
    coordinates = coordinates_of(read_json(super_weights), super_weights)
    seen = super_activations(live, windows, coordinates, tokenizer, ratio=settings.residual_ratio)
    write_table(places, seen.places)
    write_table(sinks, seen.sinks)
    save_figure(figure, figures.super_activations(seen.places, seen.sinks))


if __name__ == "__main__":
    run_step(main, globals())
