"""Round-to-nearest quantization, plain and sparing super weights: error of the weights beside perplexity."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.figures.ablation_quantization import plain_against_sparing
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.models import Live
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    impacts: Path,
    description: Path,
    *,
    table: Path,
    matrices: Path,
    figure: Path,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write a row per scheme with its impact, a row per scheme and matrix with the error, and the figure."""
    from weight_atlas.ablations.impact import headlines
    from weight_atlas.ablations.quantization_errors import scheme_errors, scheme_table
    from weight_atlas.ablations.quantization_variants import quantizations
    from weight_atlas.live.anatomy import anatomy
    from weight_atlas.live.load import load_model

    opened = open_checkpoint(checkpoint)
    model = load_model(opened, device=device, dtype=running.dtype, trust_remote_code=running.trust_remote_code)
    live = anatomy(model, opened.family)
    found = quantizations(read_json(description))
    errors = scheme_errors(live, found)
    schemes = scheme_table(errors, read_table(impacts / "quantization_ablation.csv"), found)
    write_table(matrices, errors)
    write_table(table, schemes)
    save_figure(figure, plain_against_sparing(headlines(schemes)))


if __name__ == "__main__":
    run_step(main, globals())
