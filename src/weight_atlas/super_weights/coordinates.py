"""The coordinates of the detected super weights, as their artifact lists them for the steps that read it."""

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Coordinate

# Of the artifact: another number, other keys.
SCHEMA = 2


def coordinates_of(artifact: dict, where: object) -> list[Coordinate]:
    """The coordinates that an artifact lists; an AtlasError for another schema."""
    if artifact.get("schema") != SCHEMA:
        raise AtlasError(
            f"super weights of schema {artifact.get('schema')}, expected {SCHEMA}", where=where, remedy="make it again"
        )
    return [coordinate_of(record) for record in artifact["super_weights"]]


def coordinate_of(record: dict) -> Coordinate:
    """The coordinate of one record of an artifact."""
    place = record["layer"], record["row"], record["column"], record["expert_id"]
    return Coordinate(*place, component=record["component"])
