"""Label each neuron with its kind of effect on the vocabulary, from the moments of its effects and its norm."""

import numpy as np
import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.settings.vocabulary import NeuronLabels
from weight_atlas.vocabulary.down_projections import down_projections

LABELS = ("prediction", "suppression", "partition", "entropy", "unclear")
# The column of the scan over which the percentile of each threshold is taken.
COLUMN = {
    "kurtosis": "kurt",
    "cosine_variance": "cos_var",
    "entropy_cosine_variance": "cos_var",
    "entropy_norm": "norm",
}


def with_labels(neurons: pd.DataFrame, inventory: pd.DataFrame, thresholds: NeuronLabels) -> pd.DataFrame:
    """Add the column label to a scan of all neurons of a model (see label_neurons). inventory: of its tensors."""
    matrices = down_projections(inventory)
    n_layers, d_model = int(matrices.layer.max()) + 1, int(matrices.rows.max())
    return neurons.assign(label=label_neurons(neurons, thresholds, n_layers=n_layers, d_model=d_model))


def label_neurons(
    neurons: pd.DataFrame,
    thresholds: NeuronLabels,
    *,
    n_layers: int,
    d_model: int,
    population: pd.DataFrame | None = None,
) -> np.ndarray:
    """Label every row of neurons (columns layer, skew, kurt, cos_var, norm), after Gurnee et al. (arXiv 2401.12181).

    The first of these conditions that holds decides:

    - kurt (raw) > `kurtosis`: "prediction" if skew > 0, else "suppression";
    - cos_var > `cosine_variance` and > 2 / d_model, twice the variance for a random direction: "partition";
    - one of the last layers (`entropy_layers`, a share of all), cos_var <= `entropy_cosine_variance` and
      norm >= `entropy_norm`: "entropy";
    - none: "unclear".

    A threshold is a number, or a percentile such as "p99" over the population: a scan of the model, or the neurons
    themselves if no population is given. Norms are compared within a layer, since they grow with depth.
    """
    population = neurons if population is None else population
    limit = {name: _limit(name, getattr(thresholds, name), population) for name in COLUMN}
    norm_limit = _norm_limits(thresholds.entropy_norm, population)
    layer = neurons.layer.to_numpy(int)
    skew, kurt, cos_var, norm = (neurons[name].to_numpy(float) for name in ("skew", "kurt", "cos_var", "norm"))
    last = layer >= n_layers - max(1, round(thresholds.entropy_layers * n_layers))
    tall = kurt > limit["kurtosis"]
    conditions = [
        tall & (skew > 0),
        tall & (skew <= 0),
        cos_var > max(limit["cosine_variance"], 2 / d_model),
        last & (cos_var <= limit["entropy_cosine_variance"])
        & (norm >= np.array([norm_limit.get(one, np.inf) for one in layer])),
    ]  # fmt: skip
    return np.select(conditions, LABELS[:-1], LABELS[-1])


def _limit(name: str, threshold: float | str, population: pd.DataFrame) -> float:
    percentile = percentile_of(name, threshold)
    return float(threshold) if percentile is None else _percentile(population[COLUMN[name]], percentile)


def percentile_of(name: str, threshold: float | str) -> float | None:
    """The percentile that "p99" stands for, or None for a plain number; raises AtlasError for anything else."""
    if not isinstance(threshold, str):
        return None
    try:
        percentile = float(threshold.removeprefix("p"))
    except ValueError:
        percentile = -1.0
    if not threshold.startswith("p") or not 0 <= percentile <= 100:
        raise AtlasError(
            f"{threshold!r} is no threshold", where=name, remedy='give a number or a percentile such as "p99"'
        )
    return percentile


def threshold_value(name: str, threshold: float | str, population: pd.DataFrame) -> float:
    """The number that a threshold stands for in a population of neurons."""
    return _limit(name, threshold, population)


def count_labels(neurons: pd.DataFrame) -> pd.DataFrame:
    """Count the neurons of each layer: columns layer, neurons, and one for each label."""
    counts = pd.crosstab(neurons.layer.astype(int), neurons.label).reindex(columns=list(LABELS), fill_value=0)
    counts.insert(0, "neurons", counts.sum(axis=1))
    return counts.reset_index().rename_axis(columns=None)


def _norm_limits(threshold: float | str, population: pd.DataFrame) -> dict[int, float]:
    percentile = percentile_of("entropy_norm", threshold)
    groups = population.groupby(population.layer.astype(int)).norm
    if percentile is None:
        return {layer: float(threshold) for layer in groups.groups}
    return {layer: _percentile(norms, percentile) for layer, norms in groups}


def _percentile(values: pd.Series, percentile: float) -> float:
    values = values.to_numpy(float)
    values = values[np.isfinite(values)]
    return float(np.percentile(values, percentile)) if len(values) else float("nan")
