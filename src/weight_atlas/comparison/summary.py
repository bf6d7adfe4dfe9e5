"""All tables of the comparison of two models, and its summary with findings, from the measured parts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from weight_atlas.comparison.changed_layers import moved_layers
from weight_atlas.comparison.files import file_differences, told_of_files
from weight_atlas.comparison.sides import Sides
from weight_atlas.comparison.table import by_role, comparison_table, in_order, most_changed, pooled
from weight_atlas.comparison.ties import told_of_ties
from weight_atlas.comparison.told import findings_of
from weight_atlas.comparison.verdict import relation
from weight_atlas.comparison.vocabularies import most_changed_tokens, vocabulary_counts
from weight_atlas.settings.comparison import Compared
from weight_atlas.settings.spectra import Tails


class ComparisonTables(NamedTuple):
    """What the comparison of two models leaves; summary is plain JSON."""

    tensors: pd.DataFrame
    table: pd.DataFrame
    roles: pd.DataFrame
    changes: pd.DataFrame
    heads: pd.DataFrame
    tokens: pd.DataFrame
    alone: pd.DataFrame
    files: pd.DataFrame
    summary: dict[str, Any]


def tables_of(
    sides: Sides,
    models: Sequence[str],
    parts: Sequence[Sequence[pd.DataFrame]],
    settings: Compared,
    tails: Tails,
) -> ComparisonTables:
    """Put the parts of measure.measured together. models: the names of a and b; parts: of each of PartTables."""
    tensors, heads, tokens = map(in_order, parts)
    table = comparison_table(tensors, tails, settings.ranks)
    one, other = sides.checkpoints
    # An adapter comes without the configuration of a model.
    configs = ({}, {}) if sides.adapter else (one.config, other.config)
    files = file_differences(one.folder, other.folder, configs)
    vocabulary = vocabulary_counts(sides)
    a, b = models
    found = relation(a, b, table, sides.alone, moved_layers(sides, table), sides.adapter)
    findings = findings_of(found, table, sides.alone, heads, vocabulary)
    if (ties := told_of_ties(sides, models)) is not None:
        findings.insert(1, ties)
    if beside := told_of_files(files):
        findings.append({"grade": "info", "text": beside})
    summary = {
        "schema": 1,
        "a": a,
        "b": b,
        "relation": found.word,
        "cosine_median": found.cosine,
        "cosine_null": found.null,
        "tensors": len(table),
        "changed_tensors": int((table["changed"] > 0).sum()),
        "alone": {side: int((sides.alone["side"] == side).sum()) for side in ("a", "b", "both")},
        "whole": pooled(table),
        "vocabulary": vocabulary,
        "findings": findings,
    }
    return ComparisonTables(
        tensors=tensors.drop(columns="position"),
        table=table,
        roles=by_role(table),
        changes=most_changed(table, settings.top),
        heads=heads.drop(columns="position"),
        tokens=most_changed_tokens(tokens, sides, settings.top),
        alone=sides.alone,
        files=files,
        summary=summary,
    )
