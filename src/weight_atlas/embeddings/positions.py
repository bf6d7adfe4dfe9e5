"""Learned position embeddings: how smooth they are along the sequence, which dimensions carry them, and periods."""

import numpy as np
import pandas as pd

# Cycles over all positions that a dimension needs to be periodic rather than a drift.
FEWEST_CYCLES = 2
# A white dimension is called periodic in one model of a hundred, however many dimensions it has.
LEVEL = 0.01
KINDS = ("lowest variance", "median variance", "highest variance")


def smoothness(positions: np.ndarray) -> tuple[float, np.ndarray]:
    """1 - (von Neumann's ratio) of all dimensions together, and of each, for positions (p, d) in order, p >= 3.

    The mean squared step between neighbours over twice the variance (of the sample, p - 1): 1 for a smooth course, 0
    for independent rows, negative for rows that alternate (von Neumann, Distribution of the ratio of the mean square
    successive difference to the variance, 1941). Of all dimensions the sums are taken first. NaN without variance.
    """
    values = _scaled(positions)
    steps = (np.diff(values, axis=0) ** 2).mean(axis=0)
    variance = values.var(axis=0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.where(variance > 0, 1 - steps / (2 * variance), np.nan)
        total = 1 - steps.sum() / (2 * variance.sum()) if variance.sum() > 0 else np.nan
    return float(total), each


def smoothness_deviation(count: int, width: int) -> float:
    """Standard deviation of the smoothness of `count` independent Gaussian rows of `width` dimensions.

    sqrt((p - 2) / (p^2 - 1)) of one dimension (von Neumann, 1941), over the root of their number.
    """
    return float(((count - 2) / (count**2 - 1)) ** 0.5 / width**0.5)


def position_table(positions: np.ndarray) -> pd.DataFrame:
    """A row for each position: its norm, and its correlation and cosine with the next one (missing for the last).

    correlation: Pearson's, over the dimensions, as the literature on GPT-2 has it; its standard deviation for
    independent rows is 1 / sqrt(d - 1).
    """
    values = _scaled(positions)
    norms = np.linalg.norm(values, axis=1) * _scale(positions)
    correlation = _beside(values - values.mean(axis=1, keepdims=True))
    columns = {"position": np.arange(len(values)), "norm": norms, "correlation": correlation, "cosine": _beside(values)}
    return pd.DataFrame(columns).assign(correlation_null=0.0, correlation_null_sd=(positions.shape[1] - 1) ** -0.5)


def _beside(values: np.ndarray) -> np.ndarray:
    """Cosine of each row with the next; NaN for the last, and beside a row of zeros."""
    norms = np.linalg.norm(values, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (values[:-1] * values[1:]).sum(axis=1) / (norms[:-1] * norms[1:])
    return np.append(np.clip(cosines, -1, 1), np.nan)


def dimension_table(positions: np.ndarray, chosen: list[int], count: int) -> pd.DataFrame:
    """A row for each dimension of positions (p, d).

    variance over the positions; smoothness; period, the number of positions in a cycle of the strongest frequency, and
    its share of the variance (peak_share), beside the share that the strongest frequency of white noise exceeds in one
    of a hundred models with as many dimensions (Fisher, Tests of significance in harmonic analysis, 1929); periodic:
    whether it is beyond that, with at least two cycles. shown: "chosen", or why it is drawn: the `count` dimensions of
    lowest, median and highest variance.
    """
    values = _scaled(positions)
    variance = values.var(axis=0)
    power = np.abs(np.fft.rfft(values - values.mean(axis=0), axis=0)[1:]) ** 2
    total = power.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(total > 0, power / total, np.nan)
    peak = np.where(total > 0, np.nan_to_num(shares).argmax(axis=0), 0)
    share = shares[peak, np.arange(values.shape[1])]
    null = peak_share_null(len(power), values.shape[1])
    table = pd.DataFrame({
        "dimension": np.arange(values.shape[1]),
        "variance": variance * _scale(positions) ** 2,
        "mean": values.mean(axis=0) * _scale(positions),
        "smoothness": smoothness(positions)[1],
        "period": np.where(total > 0, len(values) / (peak + 1), np.nan),
        "peak_share": share,
        "peak_share_null": null,
        "periodic": (share > null) & (peak + 1 >= FEWEST_CYCLES),
    })  # fmt: skip
    return table.assign(shown=_shown(variance, chosen, count))


def _shown(variance: np.ndarray, chosen: list[int], count: int) -> list[str]:
    order = np.argsort(variance, kind="stable")
    middle = max(0, (len(order) - count) // 2)
    groups = (order[:count], order[middle : middle + count], order[::-1][:count])
    why = [""] * len(variance)
    for kind, dimensions in zip(KINDS, groups, strict=True):
        for dimension in dimensions:
            why[dimension] = why[dimension] or kind
    for dimension in chosen:
        if -len(why) <= dimension < len(why):
            why[dimension] = "chosen"
    return why


def peak_share_null(frequencies: int, dimensions: int) -> float:
    """Share of the variance that the strongest of some frequencies of white noise exceeds with probability LEVEL over
    some dimensions: Fisher's g by its first term, 1 - (LEVEL / (m dimensions))^(1 / (m - 1)), which errs on the side of
    caution.
    """
    if frequencies < 2:
        return 1.0
    return float(1 - (LEVEL / (frequencies * dimensions)) ** (1 / (frequencies - 1)))


def periodogram(positions: np.ndarray) -> np.ndarray:
    """(p // 2,) share of the variance of all dimensions together in each frequency, from one cycle over all positions.

    White noise has 1 / (p // 2) in each.
    """
    values = _scaled(positions)
    power = (np.abs(np.fft.rfft(values - values.mean(axis=0), axis=0)[1:]) ** 2).sum(axis=1)
    return power / power.sum() if power.sum() > 0 else power


def gram(positions: np.ndarray) -> np.ndarray:
    """(p, p) cosines of all positions; NaN for rows of zeros."""
    values = _scaled(positions)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return np.clip(unit @ unit.T, -1, 1)


def _scale(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0)) or 1.0


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values in float64 of magnitude up to 1, so that no square overflows."""
    return np.asarray(values, dtype=np.float64) / _scale(values)
