"""The pairs of a configuration: which models are compared. Light: the workflow uses it."""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

from weight_atlas.errors import AtlasError, unknown_name
from weight_atlas.settings.base import NAME, Settings

BETWEEN = "-vs-"


class Pairs:
    """What `pairs` in a checked configuration means.

    names: of all pairs. AtlasError for a model that is not known, and for two pairs that would have one name.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._pairs = pairs_of(config)
        self.names = list(self._pairs)

    def models(self, pair: str) -> list[str]:
        """The names of models a and b."""
        return self._pairs[pair]

    def of_model(self, model: str, pattern: str) -> list[str]:
        """A pattern filled for each pair that a model is one of. pattern: with {pair} in it."""
        return [pattern.format(pair=name) for name, pair in self._pairs.items() if model in pair]

    def files(self, pair: str, patterns: Mapping[str, str]) -> dict[str, str]:
        """Files of both models, by input: those of b end in _b. patterns: their paths, with {model} in them."""
        a, b = self._pairs[pair]
        of_a = {name: pattern.format(model=a) for name, pattern in patterns.items()}
        return of_a | {f"{name}_b": pattern.format(model=b) for name, pattern in patterns.items()}

    def tables(
        self, pair: str, number: int, patterns: Mapping[str, str], analyses_of: Callable[[str], Iterable[str]]
    ) -> list[str]:
        """The tables of model a (number 0) or b (1), of the analyses that both have.

        patterns: by analysis, with {model} in them. analyses_of: gives the analyses of a model.
        """
        shared, model = self.shared(pair, analyses_of), self._pairs[pair][number]
        return [pattern.format(model=model) for name, pattern in patterns.items() if name in shared]

    def shared(self, pair: str, analyses_of: Callable[[str], Iterable[str]]) -> set[str]:
        """The analyses that both models have. analyses_of: gives those of a model."""
        return set.intersection(*(set(analyses_of(model)) for model in self._pairs[pair]))

    def running(self, pair: str) -> dict[str, list]:
        """How forward passes of each model are made: its type, and whether code that it brings may run."""
        entries = [self._config["models"][model] for model in self._pairs[pair]]
        return {
            "dtypes": [entry["dtype"] for entry in entries],
            "own_code": [entry["trust_remote_code"] for entry in entries],
        }

    def options(self, pair: str, section: type[Settings]) -> dict[str, Any]:
        """The keys of a class of settings of the comparison, and whether code of each model may run."""
        own_code = [self._config["models"][model]["trust_remote_code"] for model in self._pairs[pair]]
        return {**{key: self._config["comparison"][key] for key in section.model_fields}, "own_code": own_code}


def pairs_of(config: dict[str, Any], where: str = "configuration") -> dict[str, list[str]]:
    """The pairs of a checked configuration, [a, b] by name, however it gives them.

    AtlasError for a model that is not known, and for two pairs that would have one name.
    """
    given, models = config["pairs"], list(config["models"])
    if given == "all":
        return _named(list(combinations(models, 2)), where)
    if "base" in given and isinstance(given["base"], str):
        base = given["base"]
        if base not in models:
            raise unknown_name("model", base, models, f"{where}: pairs.base")
        return _named([(base, model) for model in models if model != base], where)
    for name, pair in given.items():
        for model in pair:
            if model not in models:
                raise unknown_name("model", model, models, f"{where}: pairs.{name}")
    return {name: list(pair) for name, pair in given.items()}


def _named(pairs: list[tuple[str, str]], where: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for a, b in pairs:
        name = f"{a}{BETWEEN}{b}"
        if name in found or not re.match(NAME, name):
            raise AtlasError(
                f"the pair of {a!r} and {b!r} cannot be called {name!r}",
                where=f"{where}: pairs",
                remedy="give the pairs names of your own: pairs: {name: [a, b]}",
            )
        found[name] = [a, b]
    return found


def related_models(config: dict[str, Any], where: str = "configuration") -> list[str]:
    """The models whose lineage a checked configuration asks for; AtlasError for one that is not known."""
    given, models = config["lineage"]["models"], list(config["models"])
    for model in given if given != "all" else ():
        if model not in models:
            raise unknown_name("model", model, models, f"{where}: lineage.models")
    return models if given == "all" else list(given)
