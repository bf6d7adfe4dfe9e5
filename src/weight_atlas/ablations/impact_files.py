"""The cost of one ablation on all tasks and corpora, from the files in which its evaluations were written."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from weight_atlas.ablations.impact import impact_table, item_impact, left_out, window_impact
from weight_atlas.artifacts import read_json, read_table
from weight_atlas.errors import NotApplicable
from weight_atlas.not_applicable import together
from weight_atlas.settings.ablations import AblationImpact

BASELINE = "baseline"


class Measured(NamedTuple):
    """Files of evaluations, each in a folder named like its ablation; those of the unchanged model are `baseline`'s.

    scores, documents: one a task each, in one order; descriptions, windows: one a corpus each, in one order.
    """

    scores: Sequence[Path]
    documents: Sequence[Path]
    descriptions: Sequence[Path]
    windows: Sequence[Path]


def impact_of(ablation: str, measured: Measured, settings: AblationImpact) -> pd.DataFrame:
    """The table of one ablation against the unchanged model on the same items (see impact_table).

    What does not apply to the model is left out, with a note; NotApplicable where nothing applies, or nothing was
    measured.
    """
    parts, records, skipped = [], [], []
    how = {"resamples": settings.resamples, "seed": settings.seed}
    unchanged = {path.stem: path for path in measured.windows if path.parent.name == BASELINE}
    for description, path in _of(ablation, measured.descriptions, measured.windows):
        try:
            parts.append(window_impact(path.stem, read_table(path), read_table(unchanged[path.stem])))
            records.append(read_json(description))
        except NotApplicable as error:
            skipped.append(left_out(f"corpus {path.stem}", error.what))
    unchanged = {path.stem: path for path in measured.documents if path.parent.name == BASELINE}
    for score, path in _of(ablation, measured.scores, measured.documents):
        try:
            record, items = read_json(score), read_table(path)
            parts.append(item_impact(path.stem, items, read_table(unchanged[path.stem]), record["chance"], **how))
            records.append(record)
        except NotApplicable as error:
            skipped.append(left_out(f"task {path.stem}", error.what))
    if not records:
        reasons = [each["reason"] for each in skipped]
        raise NotApplicable(together(reasons) or f"nothing was measured of {ablation}")
    variants = [each for record in records for each in record["variants"]]
    skipped += [each for record in records for each in record["skipped"]]
    return impact_table(parts, ablation, variants, skipped)


def _of(ablation: str, *files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Those of several lists of files, one beside the other, that are of an ablation."""
    return [paths for paths in zip(*files, strict=True) if paths[0].parent.name == ablation]
