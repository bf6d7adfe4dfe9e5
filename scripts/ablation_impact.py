"""What the variants of one ablation cost on every task, against the unchanged model on the same items."""

from pathlib import Path

from weight_atlas.evaluation.impact import impact_table, item_impact, window_impact
from weight_atlas.step import run_step
from weight_atlas.tables import read_json, read_table, write_table


def main(
    scores: list[Path],
    documents: list[Path],
    baseline_documents: list[Path],
    descriptions: list[Path],
    windows: list[Path],
    baseline_windows: list[Path],
    *,
    table: Path,
    ablation: str,
    resamples: int = 2000,
    seed: int = 0,
) -> None:
    """Write the impact table of one ablation of one model.

    scores, documents, baseline_documents: of each task; descriptions, windows, baseline_windows: of each corpus.
    resamples: of the bootstrap over items.
    """
    parts, variants, skipped = [], [], []
    for description, path, unchanged in zip(descriptions, windows, baseline_windows, strict=True):
        parts.append(window_impact(path.stem, read_table(path), read_table(unchanged)))
        record = read_json(description)
        variants, skipped = variants + record["variants"], skipped + record["skipped"]
    for score, path, unchanged in zip(scores, documents, baseline_documents, strict=True):
        record, how = read_json(score), {"resamples": resamples, "seed": seed}
        parts.append(item_impact(path.stem, read_table(path), read_table(unchanged), record["chance"], **how))
        variants, skipped = variants + record["variants"], skipped + record["skipped"]
    write_table(table, impact_table(parts, ablation, variants, skipped))


if __name__ == "__main__":
    run_step(main, globals())
