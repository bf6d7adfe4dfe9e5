"""Super weights: the weights that write the massive activations of a model, and what the published procedure finds."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.figures import super_weights as figures
from weight_atlas.figures.style import save_figure
from weight_atlas.live.load import open_live
from weight_atlas.settings.models import Live
from weight_atlas.settings.super_weights import SuperWeights
from weight_atlas.super_weights.survey import survey
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    *,
    found: Path,
    table: Path,
    iterations: Path,
    steps: Path,
    contributions: Path,
    agreement: Path,
    residual: Path,
    figure: Path,
    iterations_figure: Path,
    residual_figure: Path,
    shares_figure: Path,
    model: str = "",
    settings: SuperWeights,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write the super weights of a model with the evidence for them, and their figures."""
    live, tokenizer = open_live(checkpoint, running, device=device)
    seen = survey(
        live, tokenizer, read_table(tensor_inventory), settings, model=model, source=read_json(checkpoint)["source"]
    )
    write_json(found, seen.artifact)
    shown = seen.detection
    written = {table: seen.table, iterations: seen.iterations, steps: shown.steps, contributions: shown.contributions}
    for path, content in {**written, agreement: seen.agreement, residual: seen.residual}.items():
        write_table(path, content)
    save_figure(figure, figures.spike_places(seen.iterations, seen.table))
    save_figure(iterations_figure, figures.detection_iterations(seen.iterations, seen.spike_threshold))
    save_figure(residual_figure, figures.residual_by_layer(seen.residual))
    save_figure(shares_figure, figures.contribution_shares(shown.contributions))


if __name__ == "__main__":
    run_step(main, globals())
