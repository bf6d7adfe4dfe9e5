"""Sources and folders that a configuration names, checked as far as texts can be: nothing is opened."""

from weight_atlas.checkpoint.source import parse_source
from weight_atlas.paths import user_path
from weight_atlas.tokens.sources import check_source


def check_paths(config: dict) -> None:
    """Raise AtlasError for the first source or folder of a checked configuration that can mean nothing."""
    for model in (*config["models"].values(), *config["tokenizers"].values()):
        parse_source(model["source"])
    for corpus in config["corpora"].values():
        check_source(corpus["source"])
    for task in config["tasks"].values():
        for key in ("folder", "mirror"):
            if task[key] is not None:
                user_path(task[key])


def plain_folders(pathvars: dict[str, str]) -> dict[str, str]:
    """The folders of outputs, spelled as Snakemake compares them: without ~, ./, doubled and trailing slashes."""
    return {name: user_path(folder).as_posix() for name, folder in pathvars.items()}
