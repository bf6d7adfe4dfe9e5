"""Course of a measure through the layers: statistics by role, phases, trends with their effect size, gradients."""

from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.spectra.ranks import gaussian_scatter

# Order of roles in tables.
ROLE_ORDER = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_gate", "W_up", "W_down", "W_router", "W_U")
# Effect, in median absolute deviations, that the range of the phase means must exceed to be a trend.
EFFECT = 2.0
# False discovery rate of trends (Benjamini and Hochberg).
CHANCE = 0.05
# Standard deviations of the measure over Gaussian matrices of the shape that the range of phase means must exceed.
BEYOND = 4.0


def statistics_by_role(ranks: pd.DataFrame, measure: str = "erank") -> pd.DataFrame:
    """Count, Min, Max, Mean, Median, Std, Range, First, Last, Variance and CV of a measure for every role.

    Std and Variance are those of the population; First and Last follow the order of the layers. Matrices without a
    value are counted in Missing only.
    """
    rows = [_statistics(key, group, measure) for key, group in _by_role(ranks)]
    return pd.DataFrame(rows, columns=_statistics_columns())


def phase_of(layers: pd.Series, count: int) -> pd.Series:
    """Number of the phase (from 0) of every layer: layers // count layers each, and the remaining ones in the last.

    With fewer layers than phases there are as many phases as layers.
    """
    depth = int(layers.max()) + 1 if len(layers) else 1
    count = min(count, depth)
    return (layers // (depth // count)).clip(upper=count - 1).astype("int64")


def phase_names(count: int) -> list[str]:
    """early, middle, late for three phases; phase 1, phase 2 ... for another number."""
    return ["early", "middle", "late"] if count == 3 else [f"phase {index + 1}" for index in range(count)]


def phase_table(ranks: pd.DataFrame, count: int = 3, measure: str = "erank") -> pd.DataFrame:
    """mean, std, min, max, median, range and cv of a measure in every phase, for every role and for all ("all").

    std is that of a sample. share_mean is the mean of the measure as a share of r, which can be compared
    between matrices of different shapes; layers are the first and last layer of the phase.
    """
    layers, rows = _with_phase(ranks, count), []
    for _, stack in layers.groupby("stack", sort=False):
        names = phase_names(_count_of(stack))
        for phase, inside in stack.groupby("phase", sort=True):
            everything = [("all", inside), *((role, group) for (_, role), group in _by_role(inside))]
            rows += [_phase_row(names[phase], inside, role, group, measure) for role, group in everything]
    columns = [
        "stack",
        "phase",
        "layers",
        "role",
        "count",
        "mean",
        "std",
        "min",
        "max",
        "median",
        "range",
        "cv",
        "share_mean",
    ]
    return pd.DataFrame(rows, columns=columns)


def trend_table(ranks: pd.DataFrame, count: int = 3, measure: str = "erank") -> pd.DataFrame:
    """The course of a measure through the layers, for every role, from the mean of each layer.

    pattern: the course of the phase means (U-SHAPE, INVERTED U, MONOTONE UP, MONOTONE DOWN, OTHER); trend: the same,
    but OTHER unless effect is above 2, phases_q below 0.05 and the range of the phase means above 4 null_sd: a few
    layers of noise look like a pattern more often than not. effect is the range of the phase means over the median
    absolute deviation of the layers from the mean of their phase, widened by sqrt(n / (n - 1)) for the n layers that
    made the mean. phases_p is Kruskal and Wallis's test that the phases differ, phases_q the same corrected for the
    number of roles (Benjamini and Hochberg), null_sd the standard deviation of the measure over Gaussian matrices of
    the shape. slope (per layer) with its 95 % interval is Theil and Sen's, tau and p are Mann and Kendall's.
    max_drop and max_jump are the sharpest changes from one layer to the next.
    """
    layers = _with_phase(ranks, count)
    most = _count_of(layers) if len(layers) else 0
    rows = []
    for (stack, role), group in _by_role(layers):
        names = phase_names(_count_of(layers[layers["stack"] == stack]))
        course = group.groupby("layer")[measure].mean().dropna()
        phases = group.groupby("layer")["phase"].first().reindex(course.index)
        if len(course):
            rows.append(
                {"stack": stack, "role": role, **_course(course, phases, names), "null_sd": _null_sd(group, measure)}
            )
    columns = [
        "stack",
        "role",
        *phase_names(most),
        "pattern",
        "trend",
        "effect",
        "phases_p",
        "phases_q",
        "null_sd",
        "slope",
        "slope_low",
        "slope_high",
        "tau",
        "p",
    ]
    table = pd.DataFrame(rows, columns=[*columns, *_gradient_columns()])
    table["phases_q"] = _corrected(table["phases_p"])
    ranges = table[columns[2 : 2 + most]].max(axis=1) - table[columns[2 : 2 + most]].min(axis=1)
    significant = (table["effect"] > EFFECT) & (table["phases_q"] < CHANCE) & (ranges > BEYOND * table["null_sd"])
    return table.assign(trend=table["pattern"].where(significant, "OTHER"))


def pattern_of(means: list[float]) -> str:
    """Name the course of phase means: MONOTONE UP or DOWN, U-SHAPE, INVERTED U, or OTHER."""
    signs = [int(sign) for sign in np.sign(np.diff(means))]
    turns = [sign for index, sign in enumerate(signs) if index == 0 or sign != signs[index - 1]]
    names = {(1,): "MONOTONE UP", (-1,): "MONOTONE DOWN", (-1, 1): "U-SHAPE", (1, -1): "INVERTED U"}
    return names.get(tuple(turns), "OTHER")


def _by_role(ranks: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    """Groups by (stack, role): stacks in the table's order, roles in ROLE_ORDER, then others as in the table."""
    groups = list(ranks.groupby(["stack", "role"], sort=False))
    stacks = list(ranks["stack"].unique())
    position = {role: index for index, role in enumerate(ROLE_ORDER)}
    return sorted(groups, key=lambda group: (stacks.index(group[0][0]), position.get(group[0][1], len(position))))


def _statistics_columns() -> list[str]:
    measures = ["Count", "Missing", "Min", "Max", "Mean", "Median", "Std", "Range", "First", "Last", "Variance", "CV"]
    return ["Stack", "Weight Type", "Shape", *measures]


def _statistics(key: tuple[str, str], group: pd.DataFrame, measure: str) -> dict[str, object]:
    values = group[measure].to_numpy(dtype=float)
    known = values[np.isfinite(values)]
    shapes = (group["rows"].astype(str) + "x" + group["cols"].astype(str)).unique()
    row: dict[str, object] = {"Stack": key[0], "Weight Type": key[1], "Shape": ", ".join(shapes)}
    row |= {"Count": len(known), "Missing": len(values) - len(known)}
    if len(known):
        row |= {"Min": known.min(), "Max": known.max(), "Mean": known.mean(), "Median": np.median(known)}
        row |= {"Std": known.std(), "Range": known.max() - known.min(), "First": known[0], "Last": known[-1]}
        row |= {"Variance": known.var(), "CV": known.std() / known.mean()}
    return row


def _with_phase(ranks: pd.DataFrame, count: int) -> pd.DataFrame:
    layers = ranks[ranks["layer"].notna()]
    phases = [phase_of(stack["layer"].astype("int64"), count) for _, stack in layers.groupby("stack", sort=False)]
    return layers.assign(phase=pd.concat(phases) if phases else pd.Series(dtype="int64"))


def _count_of(layers: pd.DataFrame) -> int:
    """Number of phases: the last one always has layers, while the first ones may have none (adapters)."""
    return int(layers["phase"].max()) + 1


def _phase_row(name: str, inside: pd.DataFrame, role: str, group: pd.DataFrame, measure: str) -> dict[str, object]:
    values = group[measure].dropna()
    summary = values.agg(["mean", "std", "min", "max", "median"])
    return {
        "stack": inside["stack"].iloc[0],
        "phase": name,
        "layers": f"{inside['layer'].min()}-{inside['layer'].max()}",
        "role": role,
        "count": len(values),
        **summary.to_dict(),
        "range": summary["max"] - summary["min"],
        "cv": np.divide(summary["std"], summary["mean"]),
        "share_mean": (group[measure] / group["r"]).mean(),
    }


def _course(course: pd.Series, phases: pd.Series, names: list[str]) -> dict[str, object]:
    means, sizes = course.groupby(phases).mean(), course.groupby(phases).size()
    named = {names[phase]: value for phase, value in means.items()}
    pattern = pattern_of(list(means))
    several = phases.map(sizes) > 1
    spread = float(((course - phases.map(means)).abs() * (1 - 1 / phases.map(sizes)) ** -0.5)[several].median())
    effect = float(means.max() - means.min()) / spread if spread > 0 else float("nan")
    judged = {"pattern": pattern, "effect": effect, "phases_p": _phases_p(course, phases)}
    return {**named, **judged, **_slope(course), **_gradient(course)}


def _null_sd(group: pd.DataFrame, measure: str) -> float:
    """Standard deviation of the measure over Gaussian matrices, the largest of the shapes."""
    shapes = group[["rows", "cols"]].drop_duplicates().itertuples(index=False)
    return max(gaussian_scatter(int(rows), int(columns)).get(measure, 0.0) for rows, columns in shapes)


def _corrected(p_values: pd.Series) -> pd.Series:
    from scipy.stats import false_discovery_control

    known = p_values.dropna().astype(float)
    return pd.Series(false_discovery_control(known) if len(known) else known, known.index, dtype=float).reindex(
        p_values.index
    )


def _phases_p(course: pd.Series, phases: pd.Series) -> float:
    from scipy.stats import kruskal

    if phases.nunique() < 2 or course.nunique() < 2:
        return float("nan")
    return float(kruskal(*(values for _, values in course.groupby(phases))).pvalue)


def _slope(course: pd.Series) -> dict[str, float]:
    from scipy.stats import kendalltau, theilslopes

    if len(course) < 2:
        return {}
    layers, values = course.index.to_numpy(dtype=float), course.to_numpy(dtype=float)
    slope, _, low, high = theilslopes(values, layers)
    test = kendalltau(layers, values)
    return {"slope": slope, "slope_low": low, "slope_high": high, "tau": test.statistic, "p": test.pvalue}


def _gradient_columns() -> list[str]:
    return ["max_drop", "max_drop_layers", "max_jump", "max_jump_layers"]


def _gradient(course: pd.Series) -> dict[str, object]:
    if len(course) < 2:
        return {}
    layers, steps = list(course.index), np.diff(course.to_numpy(dtype=float))
    drop, jump = int(np.argmin(steps)), int(np.argmax(steps))
    return {
        "max_drop": steps[drop],
        "max_drop_layers": f"{layers[drop]}-{layers[drop + 1]}",
        "max_jump": steps[jump],
        "max_jump_layers": f"{layers[jump]}-{layers[jump + 1]}",
    }
