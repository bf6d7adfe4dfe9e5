"""Two models read from their manifests and inventories, to be compared."""

from collections.abc import Sequence
from pathlib import Path

from weight_atlas.artifacts import read_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.comparison.sides import Side, Sides
from weight_atlas.comparison.vocabularies import spellings


def read_sides(a: tuple[Path, Path], b: tuple[Path, Path], own_code: Sequence[bool]) -> Sides:
    """What of two models is compared. a, b: manifest and inventory of each; own_code: whether their code may run."""
    sides = []
    for (manifest, inventory), allowed in zip((a, b), own_code, strict=True):
        checkpoint = open_checkpoint(manifest)
        sides.append(Side(checkpoint, read_table(inventory), spellings(checkpoint.folder, allowed)))
    return Sides(*sides)
