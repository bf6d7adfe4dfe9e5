"""Verification of the super weights that an artifact lists, and of what else promises to matter: text to verdict."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from weight_atlas.interventions.intervention import Intervention
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import value_at
from weight_atlas.live.windows import Windows
from weight_atlas.settings.super_weights import SuperWeightVerification
from weight_atlas.super_weights.artifact import SCHEMA, coordinates_of, tried_record
from weight_atlas.super_weights.causal import interventional_impacts, residual_after
from weight_atlas.super_weights.findings import findings, of_sets, searched
from weight_atlas.super_weights.outliers import Promise
from weight_atlas.super_weights.prompts import tokenized
from weight_atlas.super_weights.sets import Group, Search, grown
from weight_atlas.super_weights.trials import Trial, try_promising
from weight_atlas.super_weights.verification import Verification, verify
from weight_atlas.super_weights.verification_plan import cost, plan, verification_windows


def verified(
    live: Anatomy,
    tokenizer: Any,
    found: dict,
    corpus_table: pd.DataFrame,
    screening: pd.DataFrame,
    attribution: pd.DataFrame,
    settings: SuperWeightVerification,
) -> tuple[Verification, dict]:
    """Verify the super weights of an artifact (see verification.verify); the verdict is an artifact as well.

    corpus_table: of documents. screening: the table of screening.screen; attribution: that of
    weight_attribution.attribute. What they name is tried (trials.try_promising); single weights that do harm are
    verified with the others, rows and columns searched for sets (sets.grown). The cost is printed before it is spent.
    """
    listed = coordinates_of(found, "super_weights")
    detected = listed[: settings.max_candidates]
    if len(detected) < len(listed):
        print(f"{len(listed)} super weights: the first {len(detected)} are verified", flush=True)
    windows = verification_windows(live, tokenizer, corpus_table, settings)
    trial = try_promising(
        live,
        windows,
        screening,
        attribution,
        found.get("unattributed", ()),
        listed,
        removals=settings.removals,
        ratio=settings.contributing_ratio,
        batch_size=settings.batch_size,
    )
    known = [*listed, *(each.place for each in trial.suspects)]
    search = Search(live, windows, settings.critical_ratio, settings.seed, settings.batch_size)
    groups = grown(search, [each.place for each in trial.lines], known)
    single = [Promise(each.places[0], "element", "activation", None) for each in groups if len(each.places) == 1]
    groups = [each for each in groups if len(each.places) > 1]
    due = [*single, *trial.suspects]
    suspects = due[: settings.max_candidates - len(detected)]
    unverified = len(listed) - len(detected) + len(due) - len(suspects)
    print(
        f"{len(trial.table)} weights, rows and columns of all matrices removed once: {len(suspects)} weights are "
        f"verified, and {len(groups)} of {len(trial.lines)} rows and columns hold weights that are critical together",
        flush=True,
    )
    candidates = [*detected, *(each.place for each in suspects)]
    described = found["super_weights"][: len(detected)]
    described += [tried_record(live, each.place, value_at(live, each.place), each.found_by) for each in suspects]
    planned = plan(live, candidates, draws=settings.draws, seed=settings.seed)
    judged, impacts = _judged(live, tokenizer, found, windows, candidates, planned, described, settings)
    artifact = _artifact(found, windows, candidates, judged, impacts, trial, groups, described, unverified)
    return judged, artifact


def _judged(
    live: Anatomy,
    tokenizer: Any,
    found: dict,
    windows: Windows,
    candidates: list[Coordinate],
    planned: list[Intervention],
    described: list[dict],
    settings: SuperWeightVerification,
) -> tuple[Verification, list[float | None]]:
    """The verification, its table with what is left of the residual stream, and the effects under forced routing."""
    prompts = tokenized(tokenizer, found["settings"]["prompts"], live.context)
    forced = [place for place in candidates if settings.enable_causal_scoring and place.role == "W_down"]
    forced = [place for place in forced if live.projection(place).stacked]
    if candidates:
        # The residual stream of the prompts: as it is, without all, without each.
        streams = (2 + len(candidates)) * prompts.ids.numel() / windows.ids.shape[1]
        print(cost(live, windows, planned, passes=streams + 2 * len(forced) * len(windows)), flush=True)
    judged = verify(live, windows, planned, settings)
    impacts = interventional_impacts(live, windows, forced, batch_size=settings.batch_size)
    impact = dict(zip(forced, impacts, strict=True))
    extra = pd.DataFrame(
        residual_after(live, prompts, candidates), columns=["residual_before", "residual_after", "residual_after_all"]
    )
    extra["found_by"] = pd.Series(["+".join(record["found_by"]) for record in described], dtype="object")
    judged = Verification(judged.verdict, pd.concat([judged.table, extra], axis=1), judged.variants)
    return judged, [impact.get(place) for place in candidates]


def _artifact(
    found: dict,
    windows: Windows,
    candidates: list[Coordinate],
    judged: Verification,
    impacts: list[float | None],
    trial: Trial,
    groups: list[Group],
    described: list[dict],
    unverified: int,
) -> dict:
    records = []
    rows = judged.table.to_dict("records")
    for place, record, row, forced in zip(candidates, described, rows, impacts, strict=True):
        del row["expert"], row["found_by"]
        effects = {"impact_natural": row["delta_nll"], "impact_interventional": forced}
        records.append({**record, "place": str(place), **row, **effects})
    together = judged.variants[judged.variants.kind == "joint"]
    joint = None if together.empty else together.iloc[0].drop(["kind", "candidate"]).to_dict()
    null = judged.variants[judged.variants.kind.isin(["random_together", "shifted_together"])].delta_nll
    if joint is not None:
        joint["null_max"] = float(null.max()) if len(null) else None
    verdict = "critical" if groups and judged.verdict in ("none found", "not confirmed") else judged.verdict
    return {
        "schema": SCHEMA,
        "model": found["model"],
        "verdict": verdict,
        "tokens": int(windows.scored.sum()),
        "windows": len(windows),
        "text": windows.said(),
        "joint": joint,
        "findings": [
            *findings(judged.verdict, judged.table, joint),
            *of_sets(groups),
            *searched(verdict, trial, found.get("unattributed", ()), unverified),
        ],
        "super_weights": records,
        "sets": [{**asdict(each), "line": str(each.line), "places": list(map(str, each.places))} for each in groups],
        "screened": trial.table.to_dict("records"),
    }
