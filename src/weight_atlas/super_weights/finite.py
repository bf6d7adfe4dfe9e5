"""Numbers that are none end a step with a message: a maximum would pass over them in silence."""

import math

from weight_atlas.errors import AtlasError


def not_finite(where: object) -> AtlasError:
    """The error for activations that are NaN or infinite; where: module or weight."""
    return AtlasError(
        "activations are not finite numbers",
        where=where,
        remedy="compute in float32 (dtype: float32), and look for NaN in the weight statistics",
    )


def finite(value: float, where: object) -> float:
    """The value itself; AtlasError if it is NaN or infinite, as the largest of values is if one of them is."""
    if not math.isfinite(value):
        raise not_finite(where)
    return value
