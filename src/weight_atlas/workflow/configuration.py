"""Check a configuration, and fill in what it leaves out."""

from typing import Any

from weight_atlas.errors import AtlasError, unknown_name
from weight_atlas.settings.configuration import Configuration
from weight_atlas.settings.messages import checked
from weight_atlas.settings.tokenizers import TokenizerSpec

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
    _name_tokenizers(complete, where)
    return complete


def _name_tokenizers(complete: dict[str, Any], where: str) -> None:
    """Give each tokenizer that token weights name by its place the name of the vector, among the other tokenizers."""
    known = {*complete["models"], *complete["tokenizers"]}
    for name, entry in complete["token_weights"].items():
        place = entry["tokenizer"]
        if place is None or place in known:
            continue
        if name in known:
            raise AtlasError(
                f"the tokenizer of {name!r} would have the name of a model or of another tokenizer",
                where=f"{where}: token_weights.{name}",
                remedy="give it a name of its own in `tokenizers`, and that name here",
            )
        complete["tokenizers"][name] = TokenizerSpec(source=place).model_dump()
        entry["tokenizer"] = name
