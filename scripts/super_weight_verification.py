"""Whether super weights matter: each removed alone, together, and against random weights of its size."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.figures import super_weight_verification as figures
from weight_atlas.figures.style import save_figure
from weight_atlas.live.load import open_live
from weight_atlas.settings.models import Live
from weight_atlas.settings.super_weights import SuperWeightVerification
from weight_atlas.super_weights.verdict import verified
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    super_weights: Path,
    super_weight_screening: Path,
    weight_attribution: Path,
    text: Path,
    *,
    verdict: Path,
    table: Path,
    variants: Path,
    figure: Path,
    settings: SuperWeightVerification,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write the verdict on each super weight of one model, all interventions, and their figure."""
    live, tokenizer = open_live(checkpoint, running, device=device)
    found = read_json(super_weights)
    judged, artifact = verified(
        live,
        tokenizer,
        found,
        read_table(text),
        read_table(super_weight_screening),
        read_table(weight_attribution),
        settings,
    )
    write_json(verdict, artifact)
    write_table(table, judged.table)
    write_table(variants, judged.variants)
    save_figure(figure, figures.verification(judged.table, judged.variants))


if __name__ == "__main__":
    run_step(main, globals())
