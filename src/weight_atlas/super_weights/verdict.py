"""Verification of the super weights that an artifact lists, from text to verdict."""

from typing import Any

import pandas as pd

from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.edits import value_at
from weight_atlas.live.windows import corpus_windows, fitting
from weight_atlas.settings.super_weights import SuperWeightVerification
from weight_atlas.super_weights.artifact import SCHEMA, coordinates_of, outlier_record
from weight_atlas.super_weights.causal import interventional_impacts, residual_after
from weight_atlas.super_weights.findings import findings, searched
from weight_atlas.super_weights.outliers import try_outliers
from weight_atlas.super_weights.prompts import tokenized
from weight_atlas.super_weights.verification import Verification, every_token, verify
from weight_atlas.super_weights.verification_plan import cost, plan


def verified(
    live: Anatomy,
    tokenizer: Any,
    found: dict,
    corpus_table: pd.DataFrame,
    screening: pd.DataFrame,
    settings: SuperWeightVerification,
) -> tuple[Verification, dict]:
    """Verify the super weights of an artifact (see verification.verify); the verdict is an artifact as well.

    corpus_table: of documents. screening: the table of screening.screen; of its outliers the max_outliers
    largest are removed once, and those that do harm, or may, are verified with the others. The cost is printed before
    it is spent.
    """
    listed = coordinates_of(found, "super_weights")
    detected = listed[: settings.max_candidates]
    if len(detected) < len(listed):
        print(f"{len(listed)} super weights: the first {len(detected)} are verified", flush=True)
    windows = corpus_windows(
        corpus_table,
        tokenizer,
        window=fitting(settings.window, live.context),
        tokens=settings.tokens,
        limit=live.context,
        where=settings.corpus,
    )
    windows = every_token(windows, settings.score_every)
    trial = try_outliers(
        live,
        windows,
        screening,
        listed,
        most=settings.max_outliers,
        ratio=settings.contributing_ratio,
        batch_size=settings.batch_size,
    )
    print(f"{len(trial.table)} outliers of the screening removed: {len(trial.suspects)} are verified", flush=True)
    candidates = [*detected, *trial.suspects]
    described = found["super_weights"][: len(detected)]
    described += [outlier_record(live, place, value_at(live, place)) for place in trial.suspects]
    planned = plan(live, candidates, draws=settings.draws, seed=settings.seed)
    prompts = tokenized(tokenizer, found["settings"]["prompts"], live.context)
    forced = [place for place in candidates if settings.enable_causal_scoring and live.projection(place).stacked]
    if candidates:
        # The residual stream of the prompts: as it is, without all, without each.
        streams = (2 + len(candidates)) * prompts.ids.numel() / windows.ids.shape[1]
        print(cost(live, windows, planned, passes=streams + 2 * len(forced) * len(windows)), flush=True)
    judged = verify(live, windows, planned, settings)
    records = []
    impact = dict(
        zip(forced, interventional_impacts(live, windows, forced, batch_size=settings.batch_size), strict=True)
    )
    peaks = residual_after(live, prompts, candidates)
    for number, place in enumerate(candidates):
        row = judged.table.iloc[number]
        impacts = {"impact_natural": row.delta_nll, "impact_interventional": impact.get(place)}
        records.append({**described[number], **row.drop("expert").to_dict(), **peaks[number], **impacts})
    extra = pd.DataFrame(records, columns=["residual_before", "residual_after", "residual_after_all"])
    found_by = pd.Series(["+".join(record["found_by"]) for record in described], dtype="object", name="found_by")
    table = pd.concat([judged.table, extra, found_by], axis=1)
    together = judged.variants[judged.variants.kind == "joint"]
    joint = None if together.empty else together.iloc[0].drop(["kind", "candidate"]).to_dict()
    null = judged.variants[judged.variants.kind.isin(["random_together", "shifted_together"])].delta_nll
    if joint is not None:
        joint["null_max"] = float(null.max()) if len(null) else None
    artifact = {
        "schema": SCHEMA,
        "model": found["model"],
        "verdict": judged.verdict,
        "tokens": int(windows.scored.sum()),
        "joint": joint,
        "findings": findings(judged.verdict, table, joint)
        + searched(judged.verdict, trial, found.get("unattributed", ()), len(listed) - len(detected)),
        "super_weights": records,
        "screened": trial.table.to_dict("records"),
    }
    variants = pd.concat([part for part in (judged.variants, trial.variants) if len(part)] or [judged.variants])
    return Verification(judged.verdict, table, variants.reset_index(drop=True)), artifact
