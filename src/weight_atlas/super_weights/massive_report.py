"""Massive activations of one model, complete: sites, weights, attention sinks, definitions, and what to say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from weight_atlas.errors import NotApplicable
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import edited, zero
from weight_atlas.live.windows import Windows, drawn_windows, fitting
from weight_atlas.settings.super_weights import MassiveActivations
from weight_atlas.super_weights.artifact import coordinates_of
from weight_atlas.super_weights.definitions import definition_table
from weight_atlas.super_weights.massive_findings import massive_findings
from weight_atlas.super_weights.massive_sites import EMBEDDING, NORM, Site, trace
from weight_atlas.super_weights.massive_weights import value_at, weight_table, weights_of
from weight_atlas.super_weights.sinks import head_sinks
from weight_atlas.super_weights.stages import (
    MassiveChannel,
    Peaks,
    massive_channels,
    massive_tokens,
    stage_peaks,
)

SCHEMA = 1
SITE_COLUMNS = (
    "channel", "layer", "site", "event", "marked", "before", "added", "after", "share_of_peak", "ratio",
    "participation_ratio", "token_id", "token", "position", "tokens",
)  # fmt: skip
# A channel that is massive at more than this share of the tokens is a column of the embedding, and no position a sink.
EVERYWHERE = 0.25


@dataclass(frozen=True)
class MassiveReport:
    """The tables by their columns, and the JSON artifact; heads: None where `without_heads` says why."""

    sites: pd.DataFrame
    weights: pd.DataFrame
    heads: pd.DataFrame | None
    without_heads: str
    definitions: pd.DataFrame
    artifact: dict[str, Any]


def massive_report(
    live: Anatomy, tokenizer: Any, corpus: pd.DataFrame, found: dict[str, Any], settings: MassiveActivations
) -> MassiveReport:
    """Trace the massive activations of a model in text drawn from a corpus.

    live: loaded with eager attention. found: the artifact of the detected super weights. Forward passes over the text:
    two to find the activations, one or two for attention, as many as variants are scored (restarted at the edited layer
    where that is sound), and over single windows two for each channel and for each tested weight.
    """
    windows = drawn_windows(
        corpus,
        tokenizer,
        window=fitting(settings.window, live.context),
        tokens=settings.tokens,
        limit=live.context,
        where=settings.corpus,
        seed=settings.seed,
    )
    return massive_report_of(live, tokenizer, windows, coordinates_of(found, found["model"]), settings, found["model"])


def massive_report_of(
    live: Anatomy,
    tokenizer: Any,
    windows: Windows,
    super_weights: Sequence[Coordinate],
    settings: MassiveActivations,
    model: str,
) -> MassiveReport:
    """The same on windows of text, for super weights by their coordinates."""
    ratio = settings.residual_ratio
    peaks = stage_peaks(live, windows)
    massive = massive_channels(peaks, ratio=ratio)
    channels = massive[: settings.channels]
    large = (
        massive_tokens(live, windows, channels, ratio=ratio)
        if channels
        else torch.zeros(len(windows), 0, windows.ids.shape[1], dtype=torch.bool)
    )
    shares = large.float().mean((0, 2)).tolist()
    everywhere = [each.channel for each, share in zip(channels, shares, strict=True) if share > EVERYWHERE]
    local = [number for number, share in enumerate(shares) if share <= EVERYWHERE]
    sites = trace(live, windows, channels)
    weights, factors = weight_table(
        live, windows, weights_of(sites, everywhere, min_share=settings.min_share), super_weights, settings
    )
    positions = [window[local].any(0).nonzero()[:, 0].tolist() for window in large]
    heads, without_heads = _heads(live, windows, positions, super_weights)
    remaining = _remaining(live, windows, channels, super_weights)
    definitions = definition_table(live, windows, peaks, sites, super_weights, remaining, factors, ratio=ratio)
    tokens = dict(zip(channels, large.sum((0, 2)).tolist(), strict=True))
    table = _site_table(sites, peaks, windows, tokenizer, tokens)
    left_out = len(massive) - len(channels)
    return MassiveReport(
        table,
        weights,
        heads,
        without_heads,
        definitions,
        {
            "schema": SCHEMA,
            "model": model,
            "windows": len(windows),
            "tokens": int(windows.scored.sum()),
            "channels": [each.channel for each in channels],
            "channels_left_out": left_out,
            "everywhere": everywhere,
            "definitions": {
                name: bool(part.applies.any()) for name, part in definitions.groupby("definition", sort=False)
            },
            "findings": massive_findings(table, weights, heads, definitions, left_out, ratio, super_weights),
        },
    )


def _heads(
    live: Anatomy, windows: Windows, positions: Sequence[Sequence[int]], super_weights: Sequence[Coordinate]
) -> tuple[pd.DataFrame | None, str]:
    try:
        return head_sinks(live, windows, positions, super_weights), ""
    except NotApplicable as error:
        print(f"no attention sinks: {error.what}", flush=True)
        return None, error.what


def _remaining(
    live: Anatomy, windows: Windows, channels: Sequence[MassiveChannel], super_weights: Sequence[Coordinate]
) -> dict[int, float]:
    """Of each channel, |value| at its token without the super weights over what it is with them."""
    if not super_weights:
        return {}
    with edited(live, map(zero, super_weights)):
        return {each.channel: abs(value_at(live, windows, each, each.stage) / each.value) for each in channels}


def _site_table(
    sites: Sequence[Site], peaks: Peaks, windows: Windows, tokenizer: Any, tokens: dict[MassiveChannel, int]
) -> pd.DataFrame:
    """One row per channel and site (SITE_COLUMNS): ratio, of a layer's last site, the largest of all tokens there."""
    rows = []
    for number, site in enumerate(sites):
        massive = site.massive
        token = int(windows.ids[massive.window, massive.position])
        following = sites[number + 1] if number + 1 < len(sites) else None
        last = following is None or following.massive != massive or following.layer != site.layer
        normed = site.site == NORM
        rows.append(
            {
                "channel": massive.channel,
                "layer": site.layer,
                "site": site.site,
                "event": site.event,
                "marked": bool(site.event) or normed,
                "before": site.before,
                "added": None if normed else site.added,
                "after": site.after,
                "share_of_peak": None if normed else site.added / massive.value,
                "ratio": float(peaks.ratio[site.layer + 1, massive.channel]) if last else None,
                "participation_ratio": site.written.participation_ratio
                if site.written and site.site != EMBEDDING
                else None,
                "token_id": token,
                "token": tokenizer.decode([token]),
                "position": massive.position,
                "tokens": tokens[massive],
            }
        )
    return pd.DataFrame(rows, columns=list(SITE_COLUMNS))
