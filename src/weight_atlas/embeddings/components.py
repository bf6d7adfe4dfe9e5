"""Principal components of the rows of a matrix, from the Gram matrix of its smaller side."""

from dataclasses import dataclass

import numpy as np

from weight_atlas.spectra.marchenko_pastur import gaussian_spectrum


@dataclass(frozen=True)
class Components:
    """Principal components of samples (n, f), centred, and divided by their standard deviations if so wished.

    variances: (min(n - 1, f),) of the components, descending, in the units of the (standardised) samples squared.
    scores: (n, 2) of the samples in the first two components, whose sign makes the score of largest magnitude positive.
    """

    variances: np.ndarray
    scores: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        """Share of the variance in each component; none where there is no variance."""
        total = self.variances.sum()
        return self.variances / total if total > 0 else np.empty(0)

    @property
    def spread(self) -> float:
        """Root mean square distance of the samples from their mean in the plane of the first two components."""
        return float(self.variances[:2].sum() ** 0.5)


def principal_components(samples: np.ndarray, *, standardise: bool = False) -> Components:
    """PCA of samples (n, f) with n >= 2, finite; variances are of the population, sum (x - mean)^2 / n.

    standardise: divide every feature by its standard deviation (one without any stays zero), as scikit-learn's
    StandardScaler does; components are then those of the correlation matrix.
    """
    samples = np.asarray(samples, dtype=np.float64)
    scale = float(np.abs(samples).max()) or 1.0
    centred = samples / scale
    centred = centred - centred.mean(axis=0)
    if standardise:
        deviation = np.sqrt((centred**2).mean(axis=0))
        # A constant column is left with rounding errors, which must not become a feature of variance one.
        centred = np.where(deviation > 1e-12, centred / np.where(deviation > 1e-12, deviation, 1), 0)
        scale = 1.0
    count, width = centred.shape
    kept = min(count - 1, width)
    if count <= width:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        values = np.clip(values[::-1][:kept], 0, None)
        scores = vectors[:, ::-1][:, : min(2, kept)] * np.sqrt(values[:2])
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        values = np.clip(values[::-1][:kept], 0, None)
        scores = centred @ vectors[:, ::-1][:, : min(2, kept)]
    scores = np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))
    largest = scores[np.abs(scores).argmax(axis=0), [0, 1]]
    return Components(values / count * scale**2, scores * np.where(largest < 0, -1, 1) * scale)


def gaussian_ratios(count: int, width: int) -> np.ndarray:
    """Shares of the variance in the components of independent Gaussian samples (count, width), descending.

    The quantiles of the Marchenko-Pastur law of count - 1 by width values, since centring takes one sample away.
    """
    spectrum = gaussian_spectrum(count - 1, width)[::-1]
    return np.asarray(spectrum / spectrum.sum())


def components_for(ratios: np.ndarray, share: float) -> int:
    """Components, the largest first, that hold a share of the variance."""
    return int((np.cumsum(ratios) < share * (1 - 1e-12)).sum()) + 1
