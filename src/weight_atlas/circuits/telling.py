"""The directions that say most in words: those whose effects on the tokens are furthest from those of noise."""

import pandas as pd

SHOWN = [
    "kind", "layer", "component", "expert", "head", "direction", "sigma", "energy", "energy_null", "gap", "skew",
    "kurt", "up", "down",
]  # fmt: skip


def telling(directions: pd.DataFrame, shown: int) -> pd.DataFrame:
    """The directions of largest kurtosis (a Gaussian has 3), at most `shown` of each kind, without ids and effects.

    directions: of singular_directions. Largest first, kind by kind.
    """
    order = directions.sort_values("kurt", ascending=False, kind="stable", na_position="last")
    kinds = [order[order["kind"] == kind].head(shown) for kind in ("OV", "W_down")]
    return pd.concat(kinds, ignore_index=True)[SHOWN]
