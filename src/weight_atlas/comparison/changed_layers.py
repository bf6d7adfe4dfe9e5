"""Layers of one model that stand at another place in the other, found by samples of both."""

import pandas as pd

from weight_atlas.comparison.layer_places import ALIKE, origins
from weight_atlas.comparison.profiles import model_profile
from weight_atlas.comparison.sides import Sides
from weight_atlas.comparison.sketch import LEAST, sketch


def moved_layers(sides: Sides, table: pd.DataFrame) -> list[str]:
    """Which layers of b are layers of other places in a, in words; [] where none has to be looked for.

    They are where matrices of layers have nothing of those of their number, and where b has layers that a has not.
    """
    inside = table[table["layer"].notna() & table["cols"].notna()]
    more = sides.alone[(sides.alone["side"] == "b") & sides.alone["layer"].notna()]
    if sides.adapter or not ((inside["cosine"] < ALIKE).any() or len(more)):
        return []
    spectra = pd.DataFrame(columns=["id", "sigma", "frobenius", "rounding"])
    profiles = [
        model_profile(name, sketch(side.checkpoint, side.inventory, LEAST), {}, spectra)
        for name, side in zip("ab", sides.both, strict=True)
    ]
    found = origins(*profiles)
    stacks = {stack for stack, _ in found}
    return [
        f"{f'{stack} ' if len(stacks) > 1 else ''}{layer} is what is {place}" for (stack, layer), place in found.items()
    ]
