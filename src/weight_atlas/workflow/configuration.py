"""Check a configuration, and fill in what it leaves out."""

import difflib
from typing import Any

from weight_atlas.errors import AtlasError
from weight_atlas.settings.configuration import Configuration
from weight_atlas.settings.messages import checked

# Keys under which a section lists something by the name of a model.
BY_MODEL = (("neuron_effects", "neurons"), ("intervention_targets", "coordinates"))


def configured(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a configuration in plain values, with all defaults filled in.

    The first thing wrong is an AtlasError that names the key, what is allowed there, and for an unknown key the
    nearest valid one. `where` names the file in the message.
    """
    complete = checked(Configuration, config, where).model_dump()
    for section, key in BY_MODEL:
        for name in complete[section][key]:
            if name not in complete["models"]:
                raise _unknown_model(name, list(complete["models"]), f"{where}: {section}.{key}")
    return complete


def _unknown_model(name: str, models: list[str], where: str) -> AtlasError:
    near = difflib.get_close_matches(name, models, n=1, cutoff=0.5)
    known = f"did you mean {near[0]!r}?" if near else f"models there are: {', '.join(models)}"
    return AtlasError(f"unknown model {name!r}", where=where, remedy=known)
