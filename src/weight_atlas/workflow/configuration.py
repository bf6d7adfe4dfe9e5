"""Read a configuration as Snakemake gives it, check it, and fill in what it leaves out.

Keys that stand twice are refused: YAML and JSON would take the last of them without a word.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from weight_atlas.checkpoint.source import parse_source, streamable
from weight_atlas.errors import AtlasError, located, unknown_name
from weight_atlas.paths import user_path
from weight_atlas.settings.configuration import Configuration
from weight_atlas.settings.messages import checked
from weight_atlas.settings.tokenizers import TokenizerSpec
from weight_atlas.tokens.sources import check_source
from weight_atlas.workflow.effective import effective
from weight_atlas.workflow.models_table import with_table
from weight_atlas.workflow.series import with_checkpoints
from weight_atlas.yaml_file import check_document

# Keys under which a section lists something by the name of a model.
BY_MODEL = (("neuron_effects", "neurons"), ("intervention_targets", "coordinates"))


def configured(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a configuration in plain values, with all defaults filled in; see effective.effective.

    The first thing wrong is an AtlasError that names the key, what is allowed there, and for an unknown key the
    nearest valid one. `where` names the file in the message.
    """
    complete = effective(with_checkpoints(with_table(checked(Configuration, config, where), where), where))
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


def refuse_repeated_keys(paths: Iterable[Path]) -> None:
    """Raise AtlasError for the first key that stands twice in one mapping of a YAML or JSON file."""
    import yaml

    for path in map(Path, paths):
        # JSON is YAML as far as this goes, but for tabs between its parts.
        text = path.read_text(encoding="utf-8").replace("\t", " ")
        try:
            document = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            continue  # Snakemake reads the file as well, and says what is wrong with it
        check_document(document, path)


def refuse_repeated_settings(arguments: Sequence[str]) -> None:
    """Raise AtlasError for a key that stands twice in what the command line of Snakemake sets with --config."""
    import yaml

    lines: dict[str, str] = {}
    for setting in _settings(arguments):
        key, _, text = setting.partition("=")
        if key in lines:
            raise AtlasError(
                f"the key {key!r} stands twice", where="command line: --config", remedy="keep one of the two"
            )
        lines[key] = text
        with suppress(yaml.YAMLError):  # Snakemake takes it for a text then
            check_document(yaml.compose(text, Loader=yaml.SafeLoader), "command line: --config", key)


def _settings(arguments: Sequence[str]) -> Iterator[str]:
    """The words KEY=VALUE that follow --config."""
    follows = False
    for word in arguments:
        if word.startswith("-"):
            start = next((each for each in ("--config=", "--config", "-C") if word.startswith(each)), "")
            follows = bool(start) and word[: len("--config") + 1] != "--configf"
            word = word.removeprefix(start)
        if follows and "=" in word:
            yield word


def check_paths(config: dict, where: str = "configuration") -> None:
    """Raise AtlasError for the first source or folder of a checked configuration that can mean nothing."""
    for section in ("models", "tokenizers"):
        for name, model in config[section].items():
            with located(f"{where}: {section}.{name}.source"):
                (streamable if model.get("stream") else parse_source)(model["source"])
    for name, corpus in config["corpora"].items():
        with located(f"{where}: corpora.{name}.source"):
            check_source(corpus["source"])
    for name, task in config["tasks"].items():
        for key in ("folder", "mirror"):
            if task[key] is not None:
                with located(f"{where}: tasks.{name}.{key}"):
                    user_path(task[key])


def plain_folders(pathvars: dict[str, str]) -> dict[str, str]:
    """The folders of outputs, spelled as Snakemake compares them: without ~, ./, doubled and trailing slashes."""
    return {name: user_path(folder).as_posix() for name, folder in pathvars.items()}
