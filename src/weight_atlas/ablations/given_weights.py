"""A check of weights that the configuration names by hand. Light: the workflow makes it before it runs anything."""

from typing import Any

from weight_atlas.errors import AtlasError

# What must be said of a weight for a kind of change; a whole neuron has no row, and a whole expert neither.
NEEDED = {"neurons": ("col",), "experts": ()}
KINDS = ("zero", "each", "scale", "neurons", "restore", "experts", "random", "largest", "quantize")


def check_weights(settings: dict[str, Any], where: str) -> None:
    """Raise AtlasError where a kind of change needs more of a weight's coordinate than is given."""
    for kind in KINDS:
        for weight in settings.get("weights") or [] if settings.get(kind) is not None else []:
            missing = [key for key in NEEDED.get(kind, ("row", "col")) if weight.get(key) is None]
            if missing:
                raise AtlasError(
                    f"{kind} needs the {' and the '.join(missing)} of every weight, and one in layer {weight['layer']} "
                    "is given without",
                    where=where,
                    remedy="give them, or put neurons and experts into an ablation of their own",
                )
