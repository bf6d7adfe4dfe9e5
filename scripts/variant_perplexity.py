"""Log-likelihood of fixed windows of a corpus under all variants of one ablation of one model."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.settings.ablations import WindowScores
from weight_atlas.settings.models import Live
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    text: Path,
    super_weights: Path | None = None,
    inventory: Path | None = None,
    token_weights: Path | None = None,
    expert_routing: Path | None = None,
    *,
    windows: Path,
    description: Path,
    ablation: str,
    corpus: str,
    changes: str,
    settings: WindowScores,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write the summed log-likelihood of every window under every variant, and what the variants are.

    text: the corpus. inventory: of tensors, to look up weights by hand. token_weights: by which rows of tokens are
    pruned. expert_routing: which experts are super experts. changes: the ablation's settings, as JSON.
    """
    from weight_atlas.ablations.prepare import ablation_settings, open_ablation
    from weight_atlas.ablations.window_scores import corpus_scores

    opened = open_ablation(
        checkpoint,
        ablation,
        ablation_settings(changes, ablation),
        running,
        super_weights=super_weights,
        inventory=inventory,
        token_weights=token_weights,
        expert_routing=expert_routing,
        device=device,
    )
    about, scores = corpus_scores(
        opened, read_table(text), ablation, settings, detected=super_weights is not None, where=corpus
    )
    write_table(windows, scores)
    write_json(description, about)


if __name__ == "__main__":
    run_step(main, globals())
