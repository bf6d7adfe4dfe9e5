"""Log-likelihood of fixed windows of a corpus under all variants of one ablation of one model."""

import json
from pathlib import Path

from weight_atlas.step import run_step
from weight_atlas.tables import read_json, read_table, write_json, write_table


def main(
    checkpoint: Path,
    text: Path,
    super_weights: Path | None = None,
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

    text: the corpus. settings: the ablation's, as JSON. window: tokens of one, none takes the
    model's context or 2048. tokens: of the corpus to score, none takes all. batch_size: none takes what memory allows.
    """
    from weight_atlas.evaluation.variants import variants_of
    from weight_atlas.evaluation.window_scores import score_variants
    from weight_atlas.lm.opening import open_live
    from weight_atlas.lm.windows import corpus_windows
    from weight_atlas.super_weights.artifact import coordinates_of
    from weight_atlas.super_weights.published import prompt_ids

    live, tokenizer = open_live(checkpoint, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    found = coordinates_of(read_json(super_weights), super_weights) if super_weights else []
    variants = variants_of(ablation, json.loads(settings), live, found)
    cut = corpus_windows(read_table(text), tokenizer, window=window, tokens=tokens, limit=live.context, where=corpus)
    write_table(windows, score_variants(live, cut, variants, prompt_ids(tokenizer), batch_size=batch_size))
    write_json(description, {"ablation": ablation, "variants": [variant.description() for variant in variants]})


if __name__ == "__main__":
    run_step(main, globals())
