"""How the distribution of a role's weights changes with depth: slopes and rank correlations, corrected."""

import numpy as np
import pandas as pd

from weight_atlas.weights.pooling import NOT_POOLED

MEASURES = ("std", "kurtosis", "iqr")
FEWEST_LAYERS = 3
CHANCE = 0.05  # false discovery rate of trends
_COLUMNS = [
    "stack", "role", "measure", "layers", "first", "last", "slope", "slope_low", "slope_high", "change", "tau", "p",
    "q", "trend",
]  # fmt: skip


def depth_trends(statistics: pd.DataFrame) -> pd.DataFrame:
    """A row for each role of a stack and measure; statistics: of weight_statistics.

    slope (a layer) with its 95 % interval is Theil and Sen's; change is slope times (last - first layer) over the
    median magnitude of the measure; tau and p are Mann and Kendall's, q is p corrected for all rows (Benjamini and
    Hochberg); trend is up or down where q < 0.05, else none.
    """
    inside = statistics[statistics["layer"].notna() & statistics["cols"].notna() & (statistics["role"] != NOT_POOLED)]
    inside = inside.assign(iqr=inside["p75"] - inside["p25"])
    rows = []
    for (stack, role), group in inside.groupby(["stack", "role"], sort=False):
        for measure in MEASURES:
            course = group.groupby("layer")[measure].mean().dropna()
            if len(course) >= FEWEST_LAYERS:
                rows.append({"stack": stack, "role": role, "measure": measure, **_trend(course)})
    table = pd.DataFrame(rows, columns=_COLUMNS)
    known = table["p"].notna()
    if known.any():
        from scipy.stats import false_discovery_control

        table.loc[known, "q"] = false_discovery_control(table.loc[known, "p"].astype(float))
    direction = np.where(table["slope"].astype(float) > 0, "up", "down")
    return table.assign(trend=np.where(table["q"].astype(float) < CHANCE, direction, "none"))


def _trend(course: pd.Series) -> dict[str, object]:
    from scipy.stats import kendalltau, theilslopes

    layers, values = course.index.to_numpy(dtype=float), course.to_numpy(dtype=float)
    slope, _, low, high = theilslopes(values, layers)
    test, size = kendalltau(layers, values), float(np.median(np.abs(values)))
    return {
        "layers": len(course),
        "first": values[0],
        "last": values[-1],
        "slope": slope,
        "slope_low": low,
        "slope_high": high,
        "change": slope * (layers[-1] - layers[0]) / size if size > 0 else np.nan,
        "tau": test.statistic,
        "p": test.pvalue,
    }
