"""What the variants of one ablation cost on every task, against the unchanged model on the same items."""

from pathlib import Path

from weight_atlas.ablations.impact import impact_table, item_impact, left_out, window_impact
from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.errors import NotApplicable
from weight_atlas.not_applicable import together
from weight_atlas.settings.ablations import AblationImpact
from weight_atlas.workflow.step import run_step


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
    settings: AblationImpact,
) -> None:
    """Write the impact table of one ablation of one model.

    scores, documents, baseline_documents: of each task; descriptions, windows, baseline_windows: of each corpus.
    What does not apply to the model is left out, with a note.
    """
    parts, records, skipped = [], [], []
    how = {"resamples": settings.resamples, "seed": settings.seed}
    for description, path, unchanged in zip(descriptions, windows, baseline_windows, strict=True):
        try:
            parts.append(window_impact(path.stem, read_table(path), read_table(unchanged)))
            records.append(read_json(description))
        except NotApplicable as error:
            skipped.append(left_out(f"corpus {path.stem}", error.what))
    for score, path, unchanged in zip(scores, documents, baseline_documents, strict=True):
        try:
            record, items = read_json(score), read_table(path)
            parts.append(item_impact(path.stem, items, read_table(unchanged), record["chance"], **how))
            records.append(record)
        except NotApplicable as error:
            skipped.append(left_out(f"task {path.stem}", error.what))
    if skipped and not records:
        raise NotApplicable(together(each["reason"] for each in skipped))
    variants = [each for record in records for each in record["variants"]]
    skipped += [each for record in records for each in record["skipped"]]
    write_table(table, impact_table(parts, ablation, variants, skipped))


if __name__ == "__main__":
    run_step(main, globals())
