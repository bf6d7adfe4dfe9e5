"""Search for super weights in one model: detection from one pass, published procedure, published coordinates."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import matrix_at
from weight_atlas.settings.super_weights import SuperWeights
from weight_atlas.super_weights.agreement import agreement, agreement_findings, known_as
from weight_atlas.super_weights.artifact import COLUMNS, artifact, coordinate_of
from weight_atlas.super_weights.detection import Detection, detect, unattributed
from weight_atlas.super_weights.found_records import detected_records, merged, published_records
from weight_atlas.super_weights.massive_activations import residual_medians
from weight_atlas.super_weights.prompts import bundled_prompts, tokenized
from weight_atlas.super_weights.published import family_threshold, spikes
from weight_atlas.super_weights.recording import Recording, record


@dataclass(frozen=True)
class Survey:
    """artifact: the JSON artifact. table: its records. iterations: rounds of the published procedure. detection: steps
    and contributions. residual: peak of the residual stream by prompt, token and layer. agreement: with publications.
    """

    artifact: dict
    table: pd.DataFrame
    iterations: pd.DataFrame
    detection: Detection
    residual: pd.DataFrame
    agreement: pd.DataFrame

    @property
    def spike_threshold(self) -> float:
        """The threshold that the published procedure was run with."""
        return self.artifact["settings"]["spike_threshold"]


def survey(
    live: Anatomy,
    tokenizer: Any,
    inventory: pd.DataFrame | None,
    settings: SuperWeights,
    *,
    model: str,
    source: str,
) -> Survey:
    """Search a live model for super weights.

    settings: of detect and spikes, whose results are both recorded; the published procedure uses the first of the
    prompts. inventory: for the names of tensors on disk. source: of the model, by which published coordinates are
    looked up.
    """
    texts = list(settings.prompts or bundled_prompts())
    if settings.spike_threshold is None:
        threshold, reason = family_threshold(live)
    else:
        threshold, reason = settings.spike_threshold, "the configuration"
    tokens = tokenized(tokenizer, texts, live.context)
    if not any(tokens.prefixed):
        print("the tokenizer puts no special token before a text: the prompts are run as they are", flush=True)
    recording = record(live, tokens)
    detection = detect(live, recording, settings)
    first = tokens.ids[:1, tokens.valid[0]]
    rounds = spikes(live, first, settings, threshold=threshold)
    detected, published = (
        detected_records(live, recording, detection, inventory),
        published_records(live, rounds, inventory, recording),
    )
    records = {"contribution": detected, "published": published, "both": merged(detected, published)}[settings.method]
    used = {
        **{"method": settings.method, "prompts": texts, "spike_threshold": threshold},
        **{"spike_threshold_from": reason, "max_iterations": settings.max_iterations},
        **{"min_rho": settings.min_rho, "residual_ratio": settings.residual_ratio},
        **{name: getattr(settings, name) for name in ("persistence", "coverage", "min_share")},
    }
    known = known_as(source, len(live.layers), *_dense_shape(live))
    found = [coordinate_of(record) for record in records]
    agreed = agreement(known, found, _ranks(live, known))
    flat = [{**record, "found_by": "+".join(record["found_by"])} for record in records]
    return Survey(
        artifact(model, records, published, used, agreement_findings(agreed), unattributed(detection.steps)),
        pd.DataFrame(flat, columns=list(COLUMNS)),
        rounds,
        detection,
        residual_peaks(recording),
        agreed,
    )


def residual_peaks(recording: Recording) -> pd.DataFrame:
    """Largest |h| and its channel after the embedding (layer -1) and every layer, for every token of every prompt."""
    medians, rows = residual_medians(recording), []
    for layer, h in enumerate(recording.residual):
        peak, channel = (value.cpu() for value in h.abs().max(-1))
        for prompt, position in recording.prompts.valid.nonzero().tolist():
            rows.append(
                {
                    "prompt": recording.prompts.number[prompt],
                    "prefixed": recording.prompts.prefixed[prompt],
                    "position": position,
                    "token": recording.prompts.tokens[prompt][position],
                    "layer": layer - 1,
                    "peak": float(peak[prompt, position]),
                    "channel": int(channel[prompt, position]),
                    "median": medians[prompt, layer],
                }
            )
    return pd.DataFrame(rows)


def _dense_shape(live: Anatomy) -> tuple[int, int]:
    """(d_model, d_ff) of a model whose layers all have one dense MLP of the same size; zeros for others."""
    shapes = {projection.shape for projection in live.projections}
    one_each = [projection.layer for projection in live.projections] == list(range(len(live.layers)))
    return shapes.pop() if one_each and len(shapes) == 1 and not live.projections[0].stacked else (0, 0)


def _ranks(live: Anatomy, published: pd.DataFrame) -> dict[tuple[int, int, int], int]:
    """Rank by magnitude of each published weight in its matrix, 1 for the largest."""
    ranks = {}
    for row in published.itertuples():
        magnitude = matrix_at(live, Coordinate(row.layer, row.row, row.column)).float().abs()
        ranks[row.layer, row.row, row.column] = int((magnitude > magnitude[row.row, row.column]).sum()) + 1
    return ranks
