"""The target weights of interventions in the live model."""

from collections.abc import Iterable
from typing import Any

from weight_atlas.live.anatomy import Coordinate


def coordinates_of(targets: Iterable[dict[str, Any]]) -> list[Coordinate]:
    """The coordinates of target records in the live model."""
    return [
        Coordinate(record["layer"], record["row"], record["col"], record["expert"], component=record["component"])
        for record in targets
    ]
