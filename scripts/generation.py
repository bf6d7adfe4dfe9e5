"""Text that a model continues as it is, without its super weights, and without them but with their activations."""

from pathlib import Path

from weight_atlas.ablations.generation import generated
from weight_atlas.artifacts import read_json, write_table
from weight_atlas.figures.generation import continuations
from weight_atlas.figures.style import save_figure
from weight_atlas.live.load import open_live
from weight_atlas.settings.models import Live
from weight_atlas.settings.super_weights import Generation
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    super_weight_verification: Path,
    *,
    table: Path,
    figure: Path,
    settings: Generation,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write the continuations of one model's prompts under each removal, and their figure."""
    verdict = read_json(super_weight_verification)
    texts = generated(*open_live(checkpoint, running, device=device), verdict, settings)
    write_table(table, texts)
    save_figure(figure, continuations(texts))


if __name__ == "__main__":
    run_step(main, globals())
