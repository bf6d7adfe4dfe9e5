"""Super weights of two models, such as a base model and one tuned from it: places, values and effects of removal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.interventions.changes import zeroed
from weight_atlas.interventions.intervention import Intervention
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import value_at
from weight_atlas.settings.super_weights import SuperWeightVerification
from weight_atlas.super_weights.variant_table import intervened
from weight_atlas.super_weights.verification_plan import verification_windows

INERT, UNKNOWN = "inert", "no candidate"
EFFECT = ("delta_nll", "delta_nll_low", "delta_nll_high", "ratio")
PLACE = ("layer", "role", "component", "expert", "row", "column")
ALL_OF_A, ALL_OF_B = "all of a", "all of b"
COLUMNS = (
    "weight", *PLACE, "of", "inherited", "verdict_a", "verdict_b", "value_a", "value_b", "value_ratio",
    *(f"{name}_{side}" for side in "ab" for name in EFFECT), "note",
)  # fmt: skip


@dataclass(frozen=True)
class Side:
    """What one model is at the places: its values, and the rise of the loss where each, and all of them, are removed.

    effects: EFFECT by place, and under ALL_OF_A and ALL_OF_B of all super weights of one model at once. lacking: why
    the model has no such weight.
    """

    values: dict[Coordinate, float]
    effects: dict[Coordinate | str, dict[str, float]]
    lacking: dict[Coordinate, str]


def verdicts(artifact: dict) -> dict[Coordinate, str]:
    """The verdict on each candidate of a verification's artifact."""
    return {
        Coordinate(
            record["layer"], record["row"], record["column"], record["expert_id"], record["role"], record["component"]
        ): record["verdict"]
        for record in artifact["super_weights"]
    }


def super_places(artifact: dict) -> list[Coordinate]:
    """The candidates of a verification that are not inert; all of them where every one is."""
    known = verdicts(artifact)
    return [place for place, verdict in known.items() if verdict != INERT] or list(known)


def side_of(
    live: Anatomy,
    tokenizer: Any,
    corpus_table: pd.DataFrame,
    of_a: Sequence[Coordinate],
    of_b: Sequence[Coordinate],
    settings: SuperWeightVerification,
) -> Side:
    """Measure one model: the super weights of both removed one by one, and those of each model all at once.

    The text and its windows are those of the verification with these settings: the numbers of a model that was verified
    with them are the same.
    """
    windows = verification_windows(live, tokenizer, corpus_table, settings)
    values: dict[Coordinate, float] = {}
    lacking: dict[Coordinate, str] = {}
    for place in dict.fromkeys([*of_a, *of_b]):
        try:
            values[place] = value_at(live, place)
        except AtlasError as error:
            lacking[place] = error.what
    groups: dict[Coordinate | str, list[Coordinate]] = {place: [place] for place in values}
    for name, places in ((ALL_OF_A, of_a), (ALL_OF_B, of_b)):
        if places and not lacking.keys() & {*places}:
            groups[name] = list(places)
    plan = [Intervention("single" if len(group) == 1 else "joint", zeroed(group)) for group in groups.values()]
    rows = intervened(live, windows, plan, batch_size=settings.batch_size).iloc[1:]
    effects = dict(zip(groups, rows[list(EFFECT)].to_dict("records"), strict=True))
    return Side(values, effects, lacking)


def inheritance_table(artifact_a: dict, artifact_b: dict, a: Side, b: Side) -> pd.DataFrame:
    """A row for each super weight of either model, and for all of each at once: COLUMNS.

    of: whose super weight it is. inherited: of a super weight of a, whether b's verification does not call it inert
    either, or, where it was no candidate there, whether its removal does at least half of the harm that it does in a.
    """
    known = verdicts(artifact_a), verdicts(artifact_b)
    of_a, of_b = super_places(artifact_a), super_places(artifact_b)
    rows: list[dict[str, Any]] = []
    for place in dict.fromkeys([*of_a, *of_b]):
        of = "both" if place in of_a and place in of_b else "a" if place in of_a else "b"
        effects = _effects(place, a, b)
        rows.append(
            {
                "weight": str(place),
                "layer": None if place.outside else place.layer,
                "role": place.role,
                "component": place.component,
                "expert": place.expert,
                "row": place.row,
                "column": place.col,
                "of": of,
                "inherited": _inherited(place, known[1], effects) if of != "b" else None,
                "verdict_a": known[0].get(place, UNKNOWN),
                "verdict_b": known[1].get(place, UNKNOWN),
                "value_a": a.values.get(place),
                "value_b": b.values.get(place),
                "value_ratio": _ratio(b.values.get(place), a.values.get(place)),
                **effects,
                "note": _note(a.lacking.get(place), b.lacking.get(place)),
            }
        )
    for name, of, places in ((ALL_OF_A, "a", of_a), (ALL_OF_B, "b", of_b)):
        if len(places) > 1:
            rows.append({"weight": f"all {len(places)} of {of}", "of": of, **_effects(name, a, b)})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({**dict.fromkeys(("layer", "expert", "row", "column"), "Int64"), "inherited": "boolean"})


def summary_of(table: pd.DataFrame, models: Sequence[str]) -> dict[str, Any]:
    """What the table says in a few numbers and one sentence. models: names of a and b."""
    single = table[table.role.notna()]
    of_a, of_b = single[single.of != "b"], single[single.of != "a"]
    kept = of_a[of_a.inherited.fillna(False).astype(bool)]
    ratios = kept.value_ratio.dropna()
    span = "" if ratios.empty else f", with {_span(ratios)} times their values"
    own = len(of_b) - int((of_b.of == "both").sum())
    text = (
        f"{len(kept)} of {len(of_a)} super weights of {models[0]} are super weights of {models[1]} too{span}; "
        f"{models[1]} has {own or 'none'} of its own."
    )
    return {
        "schema": 1,
        "a": models[0],
        "b": models[1],
        "super_weights_a": len(of_a),
        "super_weights_b": len(of_b),
        "inherited": len(kept),
        "findings": [{"grade": "info", "text": text}],
    }


def _span(ratios: pd.Series) -> str:
    low, high = f"{ratios.min():.3g}", f"{ratios.max():.3g}"
    return low if low == high else f"{low} to {high}"


def _effects(key: Coordinate | str, a: Side, b: Side) -> dict[str, float | None]:
    return {
        f"{name}_{letter}": side.effects.get(key, {}).get(name)
        for letter, side in (("a", a), ("b", b))
        for name in EFFECT
    }


def _inherited(place: Coordinate, of_b: dict[Coordinate, str], effects: dict[str, Any]) -> bool:
    if place in of_b:
        return of_b[place] != INERT
    there, here = effects["delta_nll_b"], effects["delta_nll_a"]
    # A removal that leaves no numbers does all the harm there is.
    return there is not None and (there != there or (there > 0 and 2 * there >= here))


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _note(*reasons: str | None) -> str | None:
    told: Iterable[str] = (f"{letter}: {reason}" for letter, reason in zip("ab", reasons, strict=True) if reason)
    return "; ".join(told) or None
