"""Whether a number grows or falls with depth: a slope that outliers do not move, and a test of a monotone course."""

import pandas as pd

COLUMNS = ["measure", "layers", "tau", "p", "slope", "slope_low", "slope_high"]
# With fewer layers no course is beyond chance.
FEWEST = 4


def depth_trends(table: pd.DataFrame, keys: list[str], measures: list[str]) -> pd.DataFrame:
    """A row for each group and measure: Mann and Kendall's test with the layer, Theil and Sen's slope with its bounds.

    table: has `layer`; of several rows of a layer the mean counts. tau: Kendall's, from -1 (falls) to 1 (grows); p: of
    no monotone course; slope: per layer, slope_low and slope_high its 95 % interval. Missing below four layers.
    """
    from scipy.stats import kendalltau, theilslopes

    rows = []
    for key, group in table[table["layer"].notna()].groupby(keys, sort=False):
        for measure in measures:
            means = group.groupby("layer")[measure].mean().dropna()
            row = {**dict(zip(keys, key, strict=True)), "measure": measure, "layers": len(means)}
            if len(means) >= FEWEST:
                depth, values = means.index.to_numpy(dtype=float), means.to_numpy(dtype=float)
                tau, slope = kendalltau(depth, values), theilslopes(values, depth)
                row |= {"tau": tau.statistic, "p": tau.pvalue, "slope": slope.slope}
                row |= {"slope_low": slope.low_slope, "slope_high": slope.high_slope}
            rows.append(row)
    return pd.DataFrame(rows, columns=[*keys, *COLUMNS]).astype(dict.fromkeys(COLUMNS[2:], "float64"))
