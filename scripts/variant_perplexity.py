"""Log-likelihood of fixed windows of a corpus under all variants of one ablation of one model."""

import json
from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    text: Path,
    super_weights: Path | None = None,
    inventory: Path | None = None,
    *,
    windows: Path,
    description: Path,
    ablation: str,
    corpus: str,
    settings: str,
    window: int | None = None,
    tokens: int | None = 8192,
    batch_size: int | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device: str = "cpu",
) -> None:
    """Write the summed log-likelihood of every window under every variant, and what the variants are.

    text: the corpus. inventory: of tensors, to look up weights by hand. settings: the ablation's, as JSON. window:
    tokens of one, none takes the model's context or 2048. tokens: of the corpus to score, none takes all. batch_size:
    none takes what memory allows.
    """
    from weight_atlas.ablations.prepare import open_ablation
    from weight_atlas.ablations.window_scores import corpus_scores

    opened = open_ablation(
        checkpoint, ablation, json.loads(settings), super_weights=super_weights, inventory=inventory, device=device,
        dtype=dtype, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    about, scores = corpus_scores(
        opened, read_table(text), ablation, detected=super_weights is not None, where=corpus, window=window,
        tokens=tokens, batch_size=batch_size,
    )  # fmt: skip
    write_table(windows, scores)
    write_json(description, about)


if __name__ == "__main__":
    run_step(main, globals())
