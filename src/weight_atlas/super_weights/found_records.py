"""Records of super weights, of what the detection and the published procedure found."""

import pandas as pd

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.super_weights.artifact import record_of
from weight_atlas.super_weights.detection import Detection, Found
from weight_atlas.super_weights.recording import Recording
from weight_atlas.super_weights.routing_measures import expert_record


def published_records(
    live: Anatomy, spikes: pd.DataFrame, inventory: pd.DataFrame | None = None, recording: Recording | None = None
) -> list[dict]:
    """The accepted rows of the published detection as records, in order of detection.

    recording: for the routing of the prompts to the experts of weights in them.
    """
    records = []
    for row in spikes[spikes.accepted].itertuples():
        expert = None if pd.isna(row.expert) else int(row.expert)
        place = Coordinate(row.layer, row.row, row.col, expert, component=row.component)
        record = record_of(live, place, row.weight, row.input_value, row.output_value, inventory)
        found = {"iteration_found": row.iteration, "found_in_modified_model": row.iteration > 1}
        routed = {} if recording is None else expert_record(live, recording, place)
        where = {"rho": row.rho, "token_index": row.token, "found_by": ["published"]}
        records.append({**record, **where, **found, **routed})
    return records


def detected_records(
    live: Anatomy, recording: Recording, detection: Detection, inventory: pd.DataFrame | None = None
) -> list[dict]:
    """The weights of a detection as records, largest contribution first."""
    return [_detected(live, recording, found, inventory) for found in detection.found]


def merged(detected: list[dict], published: list[dict]) -> list[dict]:
    """Both lists as one; a weight in both keeps the record of the detection."""
    by_place = {_place(record): record for record in published}
    joined = [
        {**record, "found_by": record["found_by"] + by_place[_place(record)]["found_by"]}
        if _place(record) in by_place
        else record
        for record in detected
    ]
    known = {_place(record) for record in detected}
    return joined + [record for record in published if _place(record) not in known]


def _place(record: dict) -> tuple:
    return record["layer"], record["component"], record["expert_id"], record["row"], record["column"]


def _detected(live: Anatomy, recording: Recording, found: Found, inventory: pd.DataFrame | None) -> dict:
    one, massive = found.contribution, found.attribution.massive
    record = record_of(live, one.coordinate, one.weight, one.input_value, one.output_value, inventory)
    return {
        **record,
        "iteration_found": 1,
        "found_in_modified_model": False,
        "rho": one.rho,
        "share": one.share,
        "contribution": one.value,
        "participation_ratio": found.attribution.participation_ratio,
        "mlp_share": found.attribution.mlp_share,
        "residual_value": massive.peak,
        "residual_ratio": massive.ratio,
        "persistence": massive.persistence(found.attribution.layer),
        "prompt": recording.prompts.number[massive.prompt],
        "token_index": massive.position,
        "token": recording.prompts.tokens[massive.prompt][massive.position],
        "tokens": found.tokens,
        "found_by": ["contribution"],
        **expert_record(live, recording, one.coordinate),
    }
