"""What every quantization scheme costs every matrix, beside what it would cost a Gaussian one of the same shape."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from weight_atlas.quantization.by_histogram import LARGEST, Values, extent_of, sums_by_values
from weight_atlas.quantization.errors import Errors, Source, Sums, kept_errors, matrix_errors
from weight_atlas.quantization.gaussian import gaussian_nulls, kept_gain
from weight_atlas.quantization.quantizers import Scheme, bits_per_weight
from weight_atlas.quantization.readiness import label
from weight_atlas.quantization.rounding import Extent
from weight_atlas.settings.quantization import QuantizationMeasures

if TYPE_CHECKING:
    import torch

# Columns of the table of histograms that say what a matrix is, and those that say how its values are distributed.
IDENTITY = ["id", "role", "stack", "layer", "expert", "rows", "cols", "dtype"]
DISTRIBUTION = ["n", "nan", "inf", "min", "max", "distribution", "values", "counts"]


@dataclass(frozen=True)
class Sensitivity:
    """errors: a row a matrix and scheme. channels: a row a matrix, scheme and number of columns kept in 16 bits."""

    errors: pd.DataFrame
    channels: pd.DataFrame

    @classmethod
    def of(cls, errors: pd.DataFrame | None, channels: pd.DataFrame | None) -> "Sensitivity":
        """Tables of these rows, None for no rows, with the types that they have on disk."""
        integers = dict.fromkeys(("layer", "expert", "rows", "cols"), "Int64")
        tables = (
            pd.DataFrame(columns=names) if rows is None else rows
            for rows, names in ((errors, [*IDENTITY, *_COLUMNS]), (channels, _KEPT_COLUMNS))
        )
        return cls(*(table.astype({key: kind for key, kind in integers.items() if key in table}) for table in tables))


def quantization_sensitivity(
    histograms: Iterable[pd.DataFrame],
    matrices: Mapping[str, Any],
    load: Callable[[Any], "torch.Tensor"],
    settings: QuantizationMeasures,
    threads: int = 1,
) -> Sensitivity:
    """Measure all schemes on all matrices, in the order of the histograms, each read once.

    histograms: parts of their table with IDENTITY and DISTRIBUTION. matrices: id -> what load() takes to give the
    matrix (rows, cols) in its stored type.
    """
    errors: list[dict] = []
    channels: list[dict] = []
    with ThreadPoolExecutor(threads) as pool:
        for part in histograms:
            for row in part[part["id"].isin(list(matrices))].itertuples(index=False):
                ours, kept = _of_matrix(row, load(matrices[row.id]), settings, pool)
                errors += ours
                channels += kept
    return Sensitivity.of(
        pd.DataFrame(errors, columns=[*IDENTITY, *_COLUMNS]), pd.DataFrame(channels, columns=_KEPT_COLUMNS)
    )


_COLUMNS = [
    "scheme", "bits", "squared_error", "energy", "mse", "relative_error", "sqnr_db", "sqnr_db_null",
    "sqnr_db_null_error", "loss_db", "cosine", "cosine_null", "worst_row", "worst_row_null", "worst_row_at",
    "readiness",
]  # fmt: skip
_KEPT_COLUMNS = [
    "id", "role", "stack", "layer", "expert", "scheme", "kept", "channels", "bits", "sqnr_db", "sqnr_db_kept",
    "gain_db", "gain_db_null", "channel_peak",
]  # fmt: skip


def _of_matrix(
    row: Any, tensor: "torch.Tensor", settings: QuantizationMeasures, pool: Executor
) -> tuple[list[dict], list[dict]]:
    schemes = [Scheme.named(name) for name in settings.schemes]
    values = Values.of(row)
    extent = extent_of(values, schemes)
    clean = bool(values.not_finite) or max(-float(row.min), float(row.max)) > LARGEST
    source = Source(tensor, extent, clean)
    measured = matrix_errors(source, schemes, pool)
    identity = {name: getattr(row, name) for name in IDENTITY}
    pooled = {scheme: _pooled(values, extent, scheme, measured) for scheme in schemes}
    errors = [identity | line for line in _error_rows(pooled, measured, source.shape, settings)]
    place = {name: identity[name] for name in ("id", "role", "stack", "layer", "expert")}
    kept = [place | line for line in _kept_rows(source, measured, pooled, settings, pool)]
    return errors, kept


def _pooled(values: Values, extent: Extent, scheme: Scheme, measured: Errors) -> Sums:
    """Sums over all elements: from the counts of values where these give them exactly, else from the rows."""
    if scheme.granularity == "tensor" and values.exact:
        return sums_by_values(values, extent, scheme)
    return Sums.of(measured.rows[scheme], len(measured.low))


def _error_rows(
    pooled: Mapping[Scheme, Sums], measured: Errors, shape: tuple[int, int], settings: QuantizationMeasures
) -> Iterator[dict]:
    nulls = gaussian_nulls(shape, list(pooled))
    for scheme, sums in pooled.items():
        rows, null = measured.rows[scheme], nulls[scheme]
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = np.where(rows[:, 2] > 0, np.sqrt(rows[:, 0] / rows[:, 2]), 0.0)
        worst, sqnr = int(np.argmax(relative)), sums.sqnr_db
        loss = null.sqnr_db - sqnr
        yield {
            "scheme": scheme.name,
            "bits": bits_per_weight(shape, scheme),
            "squared_error": sums.squared_error,
            "energy": sums.energy,
            "mse": sums.squared_error / sums.n,
            "relative_error": sums.relative_error,
            "sqnr_db": sqnr,
            "sqnr_db_null": null.sqnr_db,
            "sqnr_db_null_error": null.error,
            "loss_db": loss,
            "cosine": sums.cosine,
            "cosine_null": null.cosine,
            "worst_row": float(relative[worst]),
            "worst_row_null": null.worst_row,
            "worst_row_at": worst,
            "readiness": label(loss, settings.ready_db, settings.sensitive_db),
        }


def _kept_rows(
    source: Source,
    measured: Errors,
    pooled: Mapping[Scheme, Sums],
    settings: QuantizationMeasures,
    pool: Executor,
) -> Iterator[dict]:
    """What keeping the columns with the largest magnitudes in 16 bits would gain: what outlier channels cost."""
    schemes = [Scheme.named(name) for name in settings.kept_schemes if name in settings.schemes]
    peaks = np.maximum(np.abs(measured.low), np.abs(measured.high)).astype(np.float64)
    order, (rows, cols) = np.argsort(-peaks, kind="stable"), source.shape
    for number in [count for count in settings.kept_channels if count < cols and schemes]:
        kept, others = order[:number], order[number:]
        extent = Extent(float(measured.low[others].min()), float(measured.high[others].max()), {})
        rest = Source(source.tensor, extent, source.clean)
        for scheme, sums in zip(schemes, kept_errors(rest, kept, schemes, pool), strict=True):
            bits, before = bits_per_weight((rows, cols), scheme), pooled[scheme].sqnr_db
            typical = float(np.median(peaks))
            yield {
                "scheme": scheme.name,
                "kept": number,
                "channels": " ".join(map(str, kept)),
                "bits": bits + number / cols * (16 - bits),
                "sqnr_db": before,
                "sqnr_db_kept": sums.sqnr_db,
                "gain_db": sums.sqnr_db - before if np.isfinite(before) else np.nan,
                "gain_db_null": kept_gain(rows, cols, scheme, number),
                "channel_peak": float(peaks[kept[0]]) / typical if typical else np.nan,
            }
