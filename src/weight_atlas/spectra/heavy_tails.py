"""Heavy tails of every spectrum: power law, Marchenko-Pastur bulk, norms; and a model's summary.

Measures and readings after Martin, Peng and Mahoney, Predicting trends in the quality of state-of-the-art neural
networks without access to training or testing data, 2021. Eigenvalues are those of W^T W: squared singular values.
"""

import zlib
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.settings.spectra import Tails
from weight_atlas.spectra.marchenko_pastur import Bulk, density, fit_bulk, gaussian_spectrum
from weight_atlas.spectra.power_law import PowerLaw, bootstrap_p, fit_power_law, lognormal_ratio
from weight_atlas.spectra.shuffled import SHUFFLED, against_shuffled
from weight_atlas.spectra.spectrum_rows import SpectrumRow, floor_of, nonzero_shape, spectrum_rows, squared_floor

# Level of both tests of a power law: its bootstrap p-value (Clauset et al.), and Vuong's against the log-normal.
REJECTED = 0.1
OVER_TRAINED, UNDER_TRAINED = 2.0, 6.0
# Spectra of Gaussian matrices lie closer than this to the Marchenko-Pastur law, or than five eigenvalues; and have full
# rank except for what falls below the rounding floor.
ON_THE_LAW = 0.02
FULL_RANK = 0.95
# Above so many times a Gaussian matrix's exponent, eigenvalues are equal but for rounding, as in orthogonal matrices.
FLATTER_THAN_NOISE = 10.0
# Eigenvalues closer to each other than this share of the mean step in their tail are counted once.
SAME = 1e-3
PLACE = ["id", "role", "stack", "layer", "expert", "rows", "cols"]
FIT = ["alpha", "alpha_error", "xmin", "D", "tail", "eigenvalues", "p", "lognormal_R", "lognormal_p", "alpha_null"]
OF_ALPHA = ["alpha_weighted", "log_alpha_norm"]
NORMS = [*OF_ALPHA, "log_norm", "log_spectral_norm", "entropy"]
WHOLE = ["tail", "eigenvalues", "mp_spikes", "correlated_spikes"]
BULK = [f"mp_{field.name}" for field in fields(Bulk)]


def smallest_tail(settings: Tails, count: int) -> int:
    """Least size of a tail of `count` eigenvalues."""
    return max(2, settings.min_tail, int(np.ceil(settings.min_tail_share * count)))


def heavy_tails(spectra: pd.DataFrame, settings: Tails) -> pd.DataFrame:
    """All heavy-tail measures of every matrix of a table of singular values, in its order.

    status: "ok"; "spurious" (there is a fit, but the bootstrap rejects it or the log-normal is closer, p < 0.1);
    "degenerate" (the tail is one value, or a few, up to rounding: no alpha); "failed" (no fit: too few eigenvalues, or
    no spectrum). Only rows that are "ok" have a reading of alpha and enter the means of a model. reading: random-like
    (no spikes and the whole spectrum on the Marchenko-Pastur law, whatever alpha is), else over-trained (alpha < 2),
    well trained, or under-trained (alpha > 6). alpha_null: alpha of a Gaussian matrix of the same shape, rows and
    columns of zeros left out. alpha_weighted = alpha log10 lambda_max; log_alpha_norm = log10 sum lambda^alpha;
    log_norm, log_spectral_norm: log10 of the sum and of the largest; entropy: that of the energies over ln rank. mp_*:
    see Bulk, of the eigenvalues above the rounding floor; and what shuffling the elements leaves of its spikes: see
    against_shuffled.
    """
    rows = [_measured(row, settings) for row in spectrum_rows(spectra)]
    columns = ["status", "reading", *FIT, *NORMS, *BULK, *SHUFFLED]
    measured = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(WHOLE, "Int64"))
    return pd.concat([spectra[PLACE].reset_index(drop=True), measured], axis=1)


def tail_summary(tails: pd.DataFrame) -> dict[str, Any]:
    """Means over the matrices whose fit is ok, of the layers, of all, and of every role; counts of statuses, readings.

    Norms, entropy and the random bulk need no fit: their means are over all matrices with a spectrum.
    """
    layers = tails[tails["layer"].notna()]
    by_role = {f"{stack} {role}": _means(group) for (stack, role), group in tails.groupby(["stack", "role"])}
    return {"layers": _means(layers), "all": _means(tails), "by_role": by_role}


def eigenvalues_of(row: SpectrumRow, threshold: float | None) -> np.ndarray:
    """Squared singular values of a matrix above a threshold, ascending.

    threshold None: the square of the rounding floor (see rounding_floor); zeros are left out as well.
    """
    values = np.asarray(row.sigma, dtype=float)[::-1] ** 2
    return values[values > (squared_floor(floor_of(row), values) if threshold is None else threshold)]


def _measured(row: SpectrumRow, settings: Tails) -> dict[str, Any]:
    whole = np.asarray(row.sigma, dtype=float)[::-1] ** 2
    if not whole.size or not whole[-1] > 0:
        return {"status": "failed", "reading": ""}
    values, shape = eigenvalues_of(row, settings.threshold), nonzero_shape(row)
    bulk = _bulk(values[values > squared_floor(floor_of(row), whole)], max(shape))
    fit = fit_power_law(values, smallest_tail(settings, len(values)))
    judged = _judged(fit, values, row, settings)
    alpha = judged.get("alpha", float("nan"))
    random_like = alpha == alpha and _random_like(bulk, len(values), min(shape))
    reading = "random-like" if random_like else _reading(alpha) if judged["status"] == "ok" else ""
    shuffled = against_shuffled(row, bulk.get("mp_spikes", 0))
    return {"eigenvalues": len(values), "reading": reading, **judged, **bulk, **_norms(whole, alpha), **shuffled}


def _bulk(values: np.ndarray, longer: int) -> dict[str, Any]:
    """The random bulk; its shorter side is the number of eigenvalues, so that a rank deficiency does not count."""
    if not values.size:
        return {}
    return {f"mp_{name}": value for name, value in asdict(fit_bulk(values, len(values), longer)).items()}


def _random_like(bulk: dict[str, Any], count: int, full: int) -> bool:
    on_the_law = bulk.get("mp_distance", 1.0) < max(ON_THE_LAW, 5 / count)
    return on_the_law and bulk["mp_spikes"] == 0 and count >= FULL_RANK * full


def _reading(alpha: float) -> str:
    if alpha < OVER_TRAINED:
        return "over-trained"
    return "under-trained" if alpha > UNDER_TRAINED else "well trained"


def _judged(fit: PowerLaw | None, values: np.ndarray, row: SpectrumRow, settings: Tails) -> dict[str, Any]:
    """The fit with its status; without the fit where the tail is degenerate, since its exponent then means nothing."""
    smallest = smallest_tail(settings, len(values))
    if len(values) < smallest:
        return {"status": "failed"}
    rows, columns = nonzero_shape(row)
    null = _gaussian_alpha(rows, columns, smallest_tail(settings, min(rows, columns)))
    if fit is None or _degenerate(fit, values, null, row, settings):
        return {"status": "degenerate", "alpha_null": null}
    seed = zlib.crc32(str(row.id).encode())
    repeats = settings.bootstrap
    chance = bootstrap_p(values, fit, repeats=repeats, seed=seed, min_tail=smallest) if repeats else float("nan")
    ratio, ratio_p = lognormal_ratio(values[len(values) - fit.tail :])
    spurious = chance < REJECTED or (ratio < 0 and ratio_p < REJECTED)
    return {
        "status": "spurious" if spurious else "ok",
        **{"alpha": fit.alpha, "alpha_error": fit.error, "xmin": fit.xmin, "D": fit.distance, "tail": fit.tail},
        **{"p": chance, "lognormal_R": ratio, "lognormal_p": ratio_p},
        "alpha_null": null,
    }


def _degenerate(fit: PowerLaw, values: np.ndarray, null: float, row: SpectrumRow, settings: Tails) -> bool:
    """Whether a tail is only a few values, up to rounding: constant spectra, orthogonal matrices, few levels."""
    tail = values[len(values) - fit.tail :]
    steps = np.diff(np.log(tail))
    different = 1 + int((steps > SAME * steps.mean()).sum())
    # Rounding moves a singular value by the floor at most (Weyl), and two of them apart by twice that.
    narrow = tail[-1] ** 0.5 - tail[0] ** 0.5 <= 2 * floor_of(row)
    return different < min(settings.min_tail, fit.tail) or narrow or fit.alpha > FLATTER_THAN_NOISE * null


@lru_cache(maxsize=256)
def _gaussian_alpha(rows: int, columns: int, smallest: int) -> float:
    fit = fit_power_law(gaussian_spectrum(rows, columns), smallest)
    return fit.alpha if fit else float("nan")


def _norms(values: np.ndarray, alpha: float) -> dict[str, float]:
    top, energy = float(values[-1]), values / values.sum()
    rank = int((values > (values[-1] ** 0.5 * len(values) * np.finfo(float).eps) ** 2).sum())
    positive = energy[energy > 0]
    return {
        "alpha_weighted": alpha * np.log10(top),
        # In two steps, since lambda^alpha overflows where alpha is that of a random matrix.
        "log_alpha_norm": alpha * np.log10(top) + np.log10(((values / top) ** alpha).sum()),
        "log_norm": float(np.log10(values.sum())),
        "log_spectral_norm": np.log10(top),
        "entropy": float(-(positive * np.log(positive)).sum() / np.log(rank)) if rank > 1 else 0.0,
    }


def _means(tails: pd.DataFrame) -> dict[str, Any]:
    trusted = tails[tails["status"] == "ok"]
    return {
        "matrices": len(tails),
        "trusted": len(trusted),
        "status": tails["status"].value_counts().to_dict(),
        "reading": tails.loc[tails["reading"] != "", "reading"].value_counts().to_dict(),
        "alpha": trusted["alpha"].mean(),
        "alpha_median": trusted["alpha"].median(),
        "alpha_of_ok": trusted["alpha"].mean(),
        "alpha_null": trusted["alpha_null"].mean(),
        **{name: trusted[name].mean() for name in OF_ALPHA},
        **{name: tails[name].mean() for name in NORMS if name not in OF_ALPHA},
        "mp_spikes": int(tails["mp_spikes"].sum()),
        "mp_spike_energy": tails["mp_spike_energy"].mean(),
        "mp_distance": tails["mp_distance"].mean(),
    }


def with_spectra(tails: pd.DataFrame, spectra: pd.DataFrame, settings: Tails) -> list[tuple]:
    """What figures draw of each row of heavy_tails: the row, its eigenvalues, and the density of its random bulk.

    The last is a table of eigenvalue and density. Rows without eigenvalues are left out.
    """
    drawn = []
    by_id = {row.id: row for row in spectrum_rows(spectra)}
    for _, row in tails[(tails["eigenvalues"].fillna(0) > 1) & tails["mp_scale"].notna()].iterrows():
        values = eigenvalues_of(by_id[row["id"]], settings.threshold)
        law = density(Bulk(**{name: row[f"mp_{name}"] for name in Bulk.__dataclass_fields__}))
        drawn.append((row, values, pd.DataFrame(dict(zip(["eigenvalue", "density"], law, strict=True)))))
    return drawn
