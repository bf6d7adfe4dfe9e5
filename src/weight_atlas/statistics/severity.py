"""Words for the size of a harm: bands of perplexity ratios and of accuracy drops."""

import math

# Perplexity over the baseline's, and what an increase of that size is called.
SEVERITY_OF_RATIO = ((10.0, "catastrophic"), (3.0, "severe"), (1.5, "moderate"), (1.1, "mild"))
# Drop of an accuracy, and what a drop of more than that is called.
SEVERITY_OF_DROP = ((0.5, "catastrophic"), (0.2, "severe"), (0.1, "moderate"), (0.05, "mild"))


def severity(ratio: float) -> str:
    """The band of a perplexity ratio: > 10 catastrophic, > 3 severe, > 1.5 moderate, > 1.1 mild, else minimal.

    A ratio that is no number has none: "not finite".
    """
    return "not finite" if math.isnan(ratio) else _band(ratio, SEVERITY_OF_RATIO)


def severity_of_drop(drop: float) -> str:
    """The band of an accuracy drop: > .5 catastrophic, > .2 severe, > .1 moderate, > .05 mild, else minimal."""
    return _band(drop, SEVERITY_OF_DROP)


def _band(value: float, bands: tuple[tuple[float, str], ...]) -> str:
    return next((name for bound, name in bands if value > bound), "minimal")
