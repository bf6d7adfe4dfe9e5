"""The Marchenko-Pastur law fitted to the bulk of a spectrum: both edges, spikes beyond them, distance from the law."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from weight_atlas.spectra.nulls import marchenko_pastur_law

# Quantiles that set the scale of the bulk: above the noisy lower edge, below spikes and tails.
BULK = np.linspace(0.1, 0.6, 26)
# 99 % quantile of the Tracy-Widom law of real matrices: one random matrix in a hundred has a larger top eigenvalue.
TRACY_WIDOM_99 = 2.0234


@dataclass(frozen=True)
class Bulk:
    """A spectrum compared with that of a random matrix with the same bulk.

    scale: standard deviation of an entry of that random matrix. low, high: edges of its eigenvalues (squared singular
    values). spikes: number of eigenvalues above high by more than those of a random matrix (Tracy-Widom, 99 %);
    spike_energy: their share of the sum of all. softrank: high / largest eigenvalue. distance:
    Kolmogorov-Smirnov distance of the whole spectrum from the law.
    """

    scale: float
    low: float
    high: float
    spikes: int
    spike_energy: float
    softrank: float
    distance: float


def fit_bulk(eigenvalues: np.ndarray, rows: int, columns: int) -> Bulk:
    """Fit the law to the lower and middle quantiles of a spectrum.

    eigenvalues: (min(rows, columns),) squared singular values, ascending, not all zero. The scale is the median, over
    quantiles 0.1 to 0.6, of the ratio of the data's quantile to the law's.
    """
    small, large = sorted((rows, columns))
    law, share = marchenko_pastur_law(small / large)
    cumulative = np.cumsum(share) - share / 2
    quantiles = np.quantile(eigenvalues, BULK, method="hazen")
    variance = float(np.median(quantiles / (large * np.interp(BULK, cumulative, law))))
    low, high = (variance * large * (1 + sign * (small / large) ** 0.5) ** 2 for sign in (-1, 1))
    width = variance * (large**0.5 + small**0.5) * (large**-0.5 + small**-0.5) ** (1 / 3)
    spikes = int((eigenvalues > high + TRACY_WIDOM_99 * width).sum())
    energy = float(eigenvalues[len(eigenvalues) - spikes :].sum() / eigenvalues.sum())
    expected = np.interp(eigenvalues, variance * large * law, cumulative, left=0, right=1) if variance > 0 else 1.0
    steps = np.arange(small)
    distance = max(np.abs(expected - steps / small).max(), np.abs(expected - (steps + 1) / small).max())
    softrank = high / float(eigenvalues[-1])
    return Bulk(variance**0.5, low, high, spikes, energy, softrank, float(distance))


@lru_cache(maxsize=256)
def gaussian_spectrum(rows: int, columns: int) -> np.ndarray:
    """Typical eigenvalues (ascending) of a Gaussian matrix with entries of variance one: the quantiles of the law."""
    small, large = sorted((rows, columns))
    law, share = marchenko_pastur_law(small / large)
    spectrum = large * np.interp((np.arange(small) + 0.5) / small, np.cumsum(share) - share / 2, law)
    spectrum.flags.writeable = False
    return spectrum


def density(bulk: Bulk, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """(eigenvalues, density) of a bulk's law between its edges, at points spread evenly on a logarithmic scale."""
    start = max(bulk.low, 1e-6 * bulk.high)
    values = np.geomspace(start, bulk.high, points)
    heights = np.sqrt(np.clip((bulk.high - values) * (values - bulk.low), 0, None)) / values
    widths = np.gradient(values)
    return values, heights / (heights * widths).sum()
