"""Check the coordinates of weights that the configuration gives. Light: the workflow reads it."""

from typing import Any

from weight_atlas.errors import AtlasError
from weight_atlas.interventions.kinds import ABLATIONS, KINDS


def check_weights(settings: dict[str, Any], where: str) -> None:
    """Raise AtlasError where a kind of change needs an index of a weight that is not given."""
    for kind in ABLATIONS:
        for weight in settings.get("weights") or [] if settings.get(kind) is not None else []:
            missing = [key for key in KINDS[kind].needs if weight.get(key) is None]
            if missing:
                raise AtlasError(
                    f"{kind} needs the {' and the '.join(missing)} of every weight, and one in layer {weight['layer']} "
                    "is given without",
                    where=where,
                    remedy="give them, or put neurons and experts into an ablation of their own",
                )
