"""Rows of a token embedding or an unembedding that training never moved, or that all moved the same way.

No reference model is at hand, so each sign stands against its null:

zero            all elements are 0.
identical       the row repeats another one exactly, up to its sign or a factor.
near_identical  its centred direction has a cosine above .99 with another row's, and their norms differ by a tenth at
                most. Both are looked for where fewer than .01 such pairs are expected among Gaussian rows of the shape.
initial         the row's root mean square is that of initializer_range in config.json, to four standard deviations of a
                Gaussian row, while the bulk of the rows is further away and few rows lie between the two.
low_norm        of an embedding: the norm is below half the median, and its logarithm 6 robust standard deviations low.
like_unused     its centred direction is that of the mean of rows that are known to be unused (tokens beyond the
                tokenizer, reserved names, bytes that UTF-8 never has), as nearly as these rows' own are, each to the
                mean of the others. Used where these agree half as much again as the largest of as many random cosines.

The last is the sign of Land and Bartolo, Fishing for Magikarp (arXiv:2405.05417, 2024); the reasons for its threshold,
and the nulls, are this project's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from weight_atlas.weights.near_rows import near_rows
from weight_atlas.weights.row_classes import Rows, repeated_rows, row_classes

SIGNS = ("zero", "identical", "near_identical", "initial", "low_norm", "like_unused")
NEAR, NORMS_WITHIN, EXPECTED_PAIRS = 0.99, 0.1, 0.01
ROBUST_LOW, LOW_SHARE = -6.0, 0.5
FEWEST_UNUSED, MOST_UNUSED = 3, 2_000
_RESERVED = re.compile(r"^[\[<|]+_?(unused|reserved)[\w|: -]*[\]>|]+$", re.IGNORECASE)
# Bytes that no UTF-8 text holds: two that would encode ASCII in two bytes, and those beyond the last code point.
_NO_BYTES = (0xC0, 0xC1, *range(0xF5, 0x100))


@dataclass(frozen=True)
class Untrained:
    """rows: token_id, norm, norm_z, cosine, signs (separated by spaces, "" for a row without one), partner.

    summary: counts of each sign, and what they were measured against.
    """

    rows: pd.DataFrame
    summary: dict[str, float]


def known_unused(tokens: Sequence[str | None], count: int) -> np.ndarray:
    """Ids whose rows no text can have trained: beyond the tokenizer, reserved by name, or impossible bytes.

    tokens: as the tokenizer's vocabulary spells them, None for ids without one; count: rows of the embedding.
    """
    bytes_alone = {f"<0x{byte:02X}>" for byte in _NO_BYTES}
    if {"Ġ", "Ċ"} <= set(tokens):  # GPT-2's names of the space and the line feed: these bytes stand for themselves
        bytes_alone |= {chr(byte) for byte in _NO_BYTES}
    unused = [
        place
        for place, token in enumerate(tokens[:count])
        if not token or token in bytes_alone or _RESERVED.match(token)
    ]
    return np.array([*unused, *range(len(tokens), count)] if len(tokens) else [], dtype=np.int64)


def untrained_rows(
    rows: Rows, shape: tuple[int, int], *, unused: np.ndarray, initial: float | None, embedding: bool
) -> Untrained:
    """Signs that rows of a matrix (vocabulary, d_model) are untrained; see above.

    unused: of known_unused. initial: standard deviation of the initialisation, None if unknown. embedding: whether
    the matrix is one (tied ones are), rather than an unembedding.
    """
    count, columns = shape
    mean, norms, spread = _moments(rows, count, columns)
    signs = pd.DataFrame(False, index=range(count), columns=list(SIGNS))
    partner = np.full(count, -1)
    signs["zero"] = norms == 0
    searched = count > 1 and expected_near_pairs(count, columns) < EXPECTED_PAIRS
    if searched:
        for row in repeated_rows(row_classes(rows, count, columns)).itertuples():
            signs.loc[[row.row, row.first], "identical"] = True
            partner[row.row], partner[row.first] = row.first, row.row
        near = near_rows(lambda start, end: rows(start, end) - mean, count, columns, NEAR)
        alike = near.partner >= 0
        ratio = np.where(alike, norms[near.partner], 1) / np.where(norms > 0, norms, np.nan)
        alike &= np.abs(np.log(ratio)) < np.log1p(NORMS_WITHIN)
        signs["near_identical"] = alike & ~signs["identical"]
        partner = np.where(signs["near_identical"], near.partner, partner)
    norm_z, low = _low_norms(norms)
    signs["low_norm"] = low & embedding & ~signs["zero"]
    signs["initial"] = _at_initial(norms / np.sqrt(max(1, columns)), columns, initial) & ~signs["zero"]
    cosine, agreement, threshold = _like_unused(rows, mean, unused, shape)
    signs["like_unused"] = cosine >= threshold
    found = signs.any(axis=1).to_numpy()
    table = pd.DataFrame({"token_id": np.arange(count), "norm": norms, "norm_z": norm_z, "cosine": cosine})
    table["signs"] = [" ".join(name for name in SIGNS if row[name]) for row in signs.to_dict("records")]
    table["partner"] = pd.array(np.where(partner >= 0, partner, 0), dtype="Int64")
    table.loc[partner < 0, "partner"] = pd.NA
    summary = {
        "rows": count,
        "untrained": int(found.sum()),
        **{name: int(signs[name].sum()) for name in SIGNS},
        "known_unused": len(unused),
        "unused_agreement": agreement,
        "unused_agreement_null": random_cosine(count, columns),
        "unused_threshold": threshold if np.isfinite(threshold) else np.nan,
        "near_searched": searched,
        "norm_median": float(np.median(norms)) if count else np.nan,
        "rms": spread,
    }
    return Untrained(table, summary)


def random_cosine(count: int, columns: int) -> float:
    """About the largest cosine of one direction with `count` random ones in so many dimensions: sqrt(2 ln n / d)."""
    return float(np.sqrt(2 * np.log(max(count, 2)) / max(columns, 1)))


def expected_near_pairs(count: int, columns: int, cosine: float = NEAR) -> float:
    """Pairs of Gaussian rows with a cosine above the given one: n (n - 1) / 2 times the tail of Beta((d - 1) / 2)."""
    from scipy.stats import beta

    if columns < 2:
        return float("inf")
    half = (columns - 1) / 2
    return float(count * (count - 1) / 2 * beta.sf((1 + cosine) / 2, half, half))


def _moments(rows: Rows, count: int, columns: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean row, norms of rows, and root mean square of all elements; of rows that are not finite, 0 and NaN."""
    total, norms, step = np.zeros(columns), np.zeros(count), max(1, (1 << 18) // max(1, columns))
    for start in range(0, count, step):
        x = rows(start, min(start + step, count))
        norms[start : start + step] = np.sqrt((x * x).sum(axis=1))
        total += np.where(np.isfinite(x), x, 0.0).sum(axis=0)
    finite = np.where(np.isfinite(norms), norms, 0.0)
    return total / max(count, 1), norms, float(np.sqrt((finite**2).sum() / max(1, count * columns)))


def _low_norms(norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Robust z of log norms (median, 1.4826 MAD), and which are far below the others."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(norms)
        known = logs[np.isfinite(logs)]
        if not len(known):
            return np.full(len(norms), np.nan), np.zeros(len(norms), dtype=bool)
        middle = np.median(known)
        spread = 1.4826 * np.median(np.abs(known - middle))
        z = (logs - middle) / spread if spread > 0 else np.full(len(norms), np.nan)
        return z, (z < ROBUST_LOW) & (logs < middle + np.log(LOW_SHARE))


def _at_initial(rms: np.ndarray, columns: int, initial: float | None) -> np.ndarray:
    """Rows as large as at the initialisation, where the bulk is elsewhere and few lie between."""
    if not initial or not len(rms):
        return np.zeros(len(rms), dtype=bool)
    width = 4 / np.sqrt(2 * columns)
    ratio = rms / initial
    inside, bulk = np.abs(ratio - 1) <= width, float(np.nanmedian(ratio))
    between = (
        (ratio > 1 + width) & (ratio <= 1 + 3 * width) if bulk > 1 else (ratio < 1 - width) & (ratio >= 1 - 3 * width)
    )
    apart = abs(bulk - 1) > 3 * width and inside.sum() > 2 * between.sum()
    return inside & apart


def _like_unused(
    rows: Rows, mean: np.ndarray, unused: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, float, float]:
    """Cosine of each row with the mean of the unused ones, how much these agree, and the threshold (inf: no use)."""
    count, columns = shape
    cosine = np.full(count, np.nan)
    unused = unused[unused < count][:MOST_UNUSED]
    if len(unused) < FEWEST_UNUSED or 2 * len(unused) > count:
        return cosine, float("nan"), float("inf")
    known = _unit(np.concatenate([rows(row, row + 1) for row in unused]) - mean)
    total = np.nansum(known, axis=0)
    own = (known * _unit(total - np.nan_to_num(known))).sum(axis=1)
    own = own[np.isfinite(own)]
    agreement = float(np.median(own)) if len(own) else float("nan")
    direction, step = _unit(total[None])[0], max(1, (1 << 18) // columns)
    for start in range(0, count, step):
        cosine[start : start + step] = _unit(rows(start, min(start + step, count)) - mean) @ direction
    if not agreement > 1.5 * random_cosine(count, columns):
        return cosine, agreement, float("inf")
    scatter = 1.4826 * float(np.median(np.abs(own - agreement)))
    return cosine, agreement, max(agreement - 4 * scatter - 1e-9, 1.5 * random_cosine(count, columns))


def _unit(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return x / np.sqrt((x * x).sum(axis=1, keepdims=True))
