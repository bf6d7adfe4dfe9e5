"""Which analyses run on which models, and on which corpus a step works. Light: the workflow asks it for every job."""

from collections.abc import Sequence
from typing import Any

from weight_atlas.errors import unknown_name

# Analyses of what a section of the configuration names: where it names nothing, there is nothing to make.
_ASKED_FOR = {"quantization_recipe": "recipes", "recipe_perplexity": "recipes"}


class Selection:
    """What a checked configuration switches on.

    analyses: all there are, in the order of the schema and of a page's sections. An AtlasError for a section whose
    corpus is not known.
    """

    def __init__(self, config: dict[str, Any], analyses: Sequence[str]) -> None:
        self._config = config
        self._analyses = list(analyses)
        known = list(config["corpora"])
        # A path variable may have any name.
        sections = {name: settings for name, settings in config.items() if name not in ("pathvars", "models")}
        for model, entry in config["models"].items():
            sections |= {f"models.{model}.{name}": settings for name, settings in entry.items()}
        for section, settings in sections.items():
            name = settings.get("corpus") if isinstance(settings, dict) else None
            if isinstance(name, str) and name not in known:
                raise unknown_name("corpus", name, known, f"configuration: {section}.corpus")

    def analyses_of(self, model: str) -> list[str]:
        """The analyses of a model: all, unless its entry names some; without what the configuration asks nothing of."""
        chosen = self._config["models"][model]["analyses"]
        wanted = [name for name in self._analyses if self._config.get(_ASKED_FOR.get(name, ""), True)]
        return [name for name in wanted if chosen is None or name in chosen]

    def models_with(self, analysis: str) -> list[str]:
        """The models that have an analysis, in the order of the configuration."""
        return [model for model in self._config["models"] if analysis in self.analyses_of(model)]

    def comparisons(self, **needed: Sequence[str]) -> list[str]:
        """The comparisons of models all of whose analyses some model has. needed: the analyses of each comparison."""
        return [name for name, analyses in needed.items() if all(map(self.models_with, analyses))]

    def section(self, name: str, model: str | None = None) -> dict[str, Any]:
        """A section of the configuration with the values that hold for a model; empty for what is no section."""
        own = self._config["models"][model] if model is not None else {}
        return own.get(name) or self._config.get(name, {})

    def corpus_of(self, section: str, model: str | None = None) -> str:
        """The corpus that a section of the configuration names, for a model if it is of one, else the first."""
        return self.section(section, model)["corpus"] or next(iter(self._config["corpora"]))
