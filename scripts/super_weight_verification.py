"""Whether super weights matter: each removed alone, together, and against random weights of its size."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.figures import super_weight_verification as figures
from weight_atlas.figures.style import save_figure
from weight_atlas.live.opening import open_live
from weight_atlas.super_weights.verdict import verified
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    super_weights: Path,
    super_weight_screening: Path,
    text: Path,
    *,
    verdict: Path,
    table: Path,
    variants: Path,
    figure: Path,
    corpus: str | None = None,
    window: int | None = 256,
    tokens: int = 4096,
    score_every: int = 4,
    draws: int = 50,
    seed: int = 0,
    batch_size: int = 16,
    critical_ratio: float = 1.5,
    contributing_ratio: float = 1.1,
    max_candidates: int = 20,
    max_outliers: int = 8,
    enable_causal_scoring: bool = False,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device: str = "cpu",
) -> None:
    """Write the verdict on each super weight of one model, all interventions, and their figure (settings: verified)."""
    live, tokenizer = open_live(checkpoint, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    found = read_json(super_weights)
    judged, artifact = verified(
        live, tokenizer, found, read_table(text), read_table(super_weight_screening), corpus=corpus, window=window,
        tokens=tokens, score_every=score_every, draws=draws, seed=seed, batch_size=batch_size,
        critical_ratio=critical_ratio, contributing_ratio=contributing_ratio, max_candidates=max_candidates,
        max_outliers=max_outliers, enable_causal_scoring=enable_causal_scoring,
    )  # fmt: skip
    write_json(verdict, artifact)
    write_table(table, judged.table)
    write_table(variants, judged.variants)
    save_figure(figure, figures.verification(judged.table, judged.variants))


if __name__ == "__main__":
    run_step(main, globals())
