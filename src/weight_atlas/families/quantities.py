"""The numbers that a config.json gives about a model, under one set of names."""

import math
from collections.abc import Mapping
from typing import Any

from weight_atlas.errors import AtlasError
from weight_atlas.families.schema import COMMON, Family, load_family

# Where composite models keep the configuration of their language part.
LANGUAGE_PARTS = ("text_config", "llm_config", "language_config", "thinker_config.text_config", "llm")


class Quantities:
    """Numbers of one model by name (n_layers, d_model, ...); missing ones are None.

    A number may differ by layer (a list in config.json): `of(name, layer)` gives that layer's.
    """

    def __init__(self, family: Family, config: Mapping[str, Any]):
        self._sources, self._scales, self._sayings = family.configuration, family.scales, family.describe
        self._config = {**family.assume, **{key: value for key, value in flat(config).items() if value is not None}}

    def of(self, name: str, layer: int | None = None) -> Any:
        """The value of a quantity, or None if config.json does not give it."""
        for source in self._sources.get(name, ()):
            if self.holds(source.when) and (value := self.product(source.use, layer, asking=name)) is not None:
                return value
        return None

    def product(self, expression: str, layer: int | None = None, asking: str | None = None) -> Any:
        """Value of a key or quantity, or of a product or quotient of them ("2*d_model", "d_model/n_heads").

        None if a factor is missing. A quotient with a remainder is an AtlasError.
        """
        words = expression.replace("*", " * ").replace("/", " / ").split()
        values = [self._factor(word, layer, asking) for word in words[::2]]
        if any(value is None for value in values):
            return None
        result = values[0]
        for operator, word, value in zip(words[1::2], words[2::2], values[1:], strict=True):
            if operator == "*":
                result *= value
            elif not value or result % value:
                raise AtlasError(f"{expression}: {result} is not divisible by {word} = {value}", where="config.json")
            else:
                result //= value
        return result

    def said(self, fact: str) -> str | None:
        """What the family's table states about a fact (`describe`) for this configuration, or None."""
        return next((saying.say for saying in self._sayings.get(fact, ()) if self.holds(saying.when)), None)

    def scale(self, name: str) -> float:
        """What the model multiplies its "logits", what an "mlp" adds, or what its "routed" experts give by: the product
        of the factors of which config.json gives every key; 1 for most models."""
        factors = [self._scaling(source.use) for source in self._scales.get(name, ()) if self.holds(source.when)]
        return math.prod(factor for factor in factors if factor is not None)

    def _scaling(self, expression: str) -> float | None:
        words = expression.replace("*", " * ").replace("/", " / ").split()
        values = [self._real(word) for word in words[::2]]
        if not all(values):  # 0 switches a factor off, as an absent key does
            return None
        result = values[0]
        for operator, value in zip(words[1::2], values[1:], strict=True):
            result = result * value if operator == "*" else result / value
        return result

    def _real(self, word: str) -> float | None:
        if word.startswith("sqrt("):
            value = self._real(word[len("sqrt(") : -1])
            return None if value is None else math.sqrt(value)
        value = self._factor(word, None, None)
        return float(value) if isinstance(value, int | float) else None

    def holds(self, conditions: Mapping[str, Any]) -> bool:
        """Whether config.json has these values; an absent key counts as false, a list means any of its values, and
        "any" any value at all."""
        return all(
            self.key(key) is not None
            if wanted == "any"
            else (self.key(key) or False) in (wanted if isinstance(wanted, list) else [wanted])
            for key, wanted in conditions.items()
        )

    def key(self, dotted: str) -> Any:
        """The value of a key of config.json, by path."""
        value: Any = self._config
        if dotted in value:
            return value[dotted]
        for part in dotted.split("."):
            if isinstance(value, list) and part.isdecimal():
                value = value[int(part)] if int(part) < len(value) else None
            else:
                value = value.get(part) if isinstance(value, Mapping) else None
        return value

    @property
    def context(self) -> int | None:
        """The longest sequence that the model takes, where its configuration says."""
        value = self.of("context")
        return value if isinstance(value, int) and value > 0 else None

    def kind(self, layer: int | None) -> str | None:
        """The kind of a layer, as "linear_attention" or "full_attention", where config.json tells; else None.

        By layer_kinds, a list of kinds; linear_layers, the layers with linear attention, counted from 1; or
        full_attention_every, the number of layers of which the last has full attention.
        """
        if layer is None:
            return None
        kinds, linear, every = self._list("layer_kinds"), self._list("linear_layers"), self.of("full_attention_every")
        if kinds is not None and layer < len(kinds):
            return kinds[layer]
        if linear is not None:
            return "linear_attention" if layer + 1 in linear else "full_attention"
        if every:
            return "full_attention" if (layer + 1) % every == 0 else "linear_attention"
        return None

    def _list(self, name: str) -> list | None:
        values = [self.key(source.use) for source in self._sources.get(name, ())]
        return next((value for value in values if isinstance(value, list)), None)

    def _factor(self, word: str, layer: int | None, asking: str | None) -> Any:
        if word.isdigit():
            return int(word)
        value = self.key(word)
        if isinstance(value, list):
            value = value[layer] if layer is not None and layer < len(value) else _common(value)
        if value is None and word != asking and word in self._sources:
            value = self.of(word, layer)
        return value


def _common(values: list) -> Any:
    return values[0] if values and all(value == values[0] for value in values) else None


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with that of its language part, if it has one, laid over it.

    The metadata of a GGUF file stands under "gguf", with the architecture before each name: it is taken off.
    """
    result = dict(config)
    if isinstance(metadata := config.get("gguf"), Mapping):
        result |= {name.partition(".")[2]: value for name, value in metadata.items()}
    for path in LANGUAGE_PARTS:
        part: Any = config
        for key in path.split("."):
            part = part.get(key) if isinstance(part, Mapping) else None
        if isinstance(part, Mapping):
            result |= {key: value for key, value in part.items() if value is not None}
    return result


def context_of(config: Mapping[str, Any], family: Family | None = None) -> int | None:
    """The longest sequence that a model takes, where its configuration says.

    family: whose reading of the configuration counts; else the one that most families share.
    """
    return Quantities(family or load_family(COMMON), config).context
