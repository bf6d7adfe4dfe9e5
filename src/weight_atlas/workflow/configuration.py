"""Check a configuration, and fill in what it leaves out."""

from typing import Any

from weight_atlas.errors import AtlasError, unknown_name
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
                raise unknown_name("model", name, complete["models"], f"{where}: {section}.{key}")
    if twice := sorted(complete["models"].keys() & complete["tokenizers"].keys()):
        raise AtlasError(
            f"a tokenizer has the name of a model: {twice[0]!r}",
            where=f"{where}: tokenizers.{twice[0]}",
            remedy="rename one of them, or leave the tokenizer out: a model's own is used already",
        )
    return complete
