"""The numbers that a config.json gives about a model, under one set of names."""

import math
import re
from collections.abc import Mapping
from typing import Any

from weight_atlas.errors import AtlasError
from weight_atlas.families.schema import Family, Saying, Source

# What must be a whole number in config.json, at least 1.
_SIZES = frozenset(
    {
        "n_layers", "encoder_n_layers", "stored_layers", "d_model", "d_embedding", "vocabulary", "position_rows",
        "head_dim", "head_width", "full_attention_every",
    }
)  # fmt: skip
# The same for parts that a model, or one of its layers, may do without: 0 is possible.
_PARTS = frozenset(
    {
        "n_heads", "n_kv_heads", "encoder_n_heads", "encoder_n_kv_heads", "d_ff", "encoder_d_ff", "d_ff_expert",
        "d_ff_shared", "n_experts", "n_shared_experts", "n_experts_per_token", "n_extra_layers", "q_rank", "kv_rank",
        "ssm_inner", "ssm_state", "ssm_groups", "ssm_heads",
    }
)  # fmt: skip
# One number for the whole model, never a list by layer.
WHOLE_MODEL = frozenset({"n_layers", "encoder_n_layers", "stored_layers", "d_model", "d_embedding", "vocabulary"})
_BY_LAYER = frozenset({"n_heads", "n_kv_heads", "head_dim", "head_width", "d_ff"})
_LARGEST = 1 << 40
# Where composite models keep the configuration of their language part.
LANGUAGE_PARTS = ("text_config", "llm_config", "language_config", "thinker_config.text_config", "llm")


class Quantities:
    """Numbers of one model by name (n_layers, d_model, ...); missing ones are None.

    A number may differ by layer (a list in config.json): `of(name, layer)` gives that layer's.
    """

    def __init__(self, family: Family, config: Mapping[str, Any]):
        self._sources: dict[str, tuple[Source, ...]] = family.configuration
        self._scales: dict[str, tuple[Source, ...]] = {str(name): factors for name, factors in family.scales.items()}
        self._sayings: dict[str, tuple[Saying, ...]] = {str(fact): sayings for fact, sayings in family.describe.items()}
        self._inferred: dict[str, int] = {}
        self._config = {**family.assume, **{key: value for key, value in flat(config).items() if value is not None}}

    def of(self, name: str, layer: int | None = None) -> Any:
        """The value of a quantity, or None if config.json does not give it; an impossible size is an AtlasError."""
        use = self.source(name, layer)
        if use is None:
            return self._inferred.get(name)
        value = self.product(use, layer, resolving=name)
        return _size(name, use, value) if name in _SIZES or name in _PARTS else value

    def source(self, name: str, layer: int | None = None) -> str | None:
        """Where config.json gives a quantity: a key, or an expression of keys and quantities; None if nowhere."""
        for source in self._sources.get(name, ()):
            if not self.holds(source.when):
                continue
            if isinstance(given := self.key(source.use), list) and not self._may_be_list(name, given):
                raise _impossible(name, source.use, given)
            if self.product(source.use, layer, resolving=name) is not None:
                return source.use
        return None

    def keys(self, use: str, layer: int | None = None) -> str:
        """An expression of quantities as one of keys of config.json, for a message."""
        words = re.split(r"([*/+])", use.replace(" ", ""))
        return "".join(
            self.keys(source, layer)
            if self.key(word) is None and (source := self.source(word, layer))
            else word.removeprefix("config.")
            for word in words
        )

    def _may_be_list(self, name: str, given: list) -> bool:
        """Whether a quantity can be this list: one of the whole model never, heads and widths one for each layer."""
        layers = self.of("n_layers") if name in _BY_LAYER else None
        return name not in WHOLE_MODEL and layers in (None, len(given))

    def infer(self, name: str, value: int) -> None:
        """Set a size that config.json does not give, as the tensors have it; defaults of others ignore it."""
        self._inferred[name] = value

    def size(self, word: str, layer: int | None = None) -> int | None:
        """A quantity, or a key of config.json, that must be a size."""
        if word in self._sources or word in self._inferred:
            return self.of(word, layer)
        value = self.product(word, layer)
        return None if value is None else _size(word, word, value)

    def product(self, expression: str, layer: int | None = None, resolving: str | None = None) -> Any:
        """Value of a key or quantity, or of sums of products and quotients of them ("2*d_model", "d_model/n_heads").

        None if a factor is missing. A quotient with a remainder, or a factor that is no number, is an AtlasError.
        """
        terms = [self._term(term, layer, resolving) for term in expression.split("+")]
        if len(terms) == 1:
            return terms[0]
        return None if any(term is None for term in terms) else sum(terms)

    def _term(self, expression: str, layer: int | None, resolving: str | None) -> Any:
        words = expression.replace("*", " * ").replace("/", " / ").split()
        values = [self._factor(word, layer, resolving) for word in words[::2]]
        if any(value is None for value in values):
            return None
        if len(values) == 1:
            return values[0]
        values = [_number(value, word) for word, value in zip(words[::2], values, strict=True)]
        result = values[0]
        for operator, word, value in zip(words[1::2], words[2::2], values[1:], strict=True):
            if operator == "*":
                result *= value
            elif not value or result % value:
                raise AtlasError(f"{expression}: {result} is not divisible by {word} = {value}", where="config.json")
            else:
                result //= value
        return result

    def fact(self, name: str) -> str | None:
        """What the family's table states (`describe`) about a fact for this configuration, or None."""
        return next((saying.say for saying in self._sayings.get(name, ()) if self.holds(saying.when)), None)

    def scale(self, name: str) -> float:
        """What the model multiplies its "logits", what an "mlp" adds, or what its "routed" experts give by: the product
        of the factors of which config.json gives every key; 1 for most models."""
        factors = [self._scaling(source.use) for source in self._scales.get(name, ()) if self.holds(source.when)]
        return math.prod(factor for factor in factors if factor is not None)

    def _scaling(self, expression: str) -> float | None:
        words = expression.replace("*", " * ").replace("/", " / ").split()
        values = [value for word in words[::2] if (value := self._real(word))]
        if len(values) < len(words[::2]):  # 0 switches a factor off, as an absent key does
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
        """The value of a key of config.json, by path, with or without "config." before it."""
        dotted = dotted.removeprefix("config.")
        value: Any = self._config
        if dotted in value:
            return value[dotted]
        for part in dotted.split("."):
            if isinstance(value, list) and part.isdecimal():
                value = value[int(part)] if int(part) < len(value) else None
            else:
                value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def kind(self, layer: int | None) -> str | None:
        """The kind of a layer, as "linear_attention" or "full_attention", where config.json gives it; else None.

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

    def n_kinds(self) -> int | None:
        """The number of layers whose kinds config.json lists one by one, or None."""
        kinds = self._list("layer_kinds")
        return None if kinds is None else len(kinds)

    def _list(self, name: str) -> list | None:
        values = [self.key(source.use) for source in self._sources.get(name, ())]
        return next((value for value in values if isinstance(value, list)), None)

    def _factor(self, word: str, layer: int | None, resolving: str | None) -> Any:
        if word.isdigit():
            return int(word)
        value = self.key(word)
        if isinstance(value, list):
            value = value[layer] if layer is not None and layer < len(value) else _common(value)
        if value is None and word != resolving and word in self._sources:
            # A default such as 4 * d_model says what config.json means: an inferred width does not make it hold.
            value = self.of(word, layer) if resolving is None or self.source(word, layer) else None
        return value


def _number(value: Any, word: str) -> int | float:
    # A ratio such as MPT's may be broken; what it gives is a size again.
    if isinstance(value, bool) or not isinstance(value, int | float) or value in (math.inf, -math.inf):
        raise _impossible(word, word, value)
    return value


def _size(name: str, use: str, value: Any) -> Any:
    """A size as a whole number, or a list of them where layers differ."""
    if isinstance(value, list) and value:
        return [_size(name, use, one) for one in value]
    least = 0 if name in _PARTS else 1
    broken = isinstance(value, float) and not (math.isfinite(value) and value == int(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or broken or not least <= value <= _LARGEST:
        raise _impossible(name, use, value)
    return int(value)


def _impossible(name: str, use: str, value: Any) -> AtlasError:
    use = use.removeprefix("config.")
    said = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number of more than 20 digits"
    return AtlasError(
        f"config.json: {use} is {said[:80]}, which cannot be {name}",
        where=f"{use} in config.json",
        remedy="it must be a whole number of the model's size: restore config.json from where the model comes from",
    )


def _common(values: list) -> Any:
    return values[0] if values and all(value == values[0] for value in values) else None


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with that of its language part, if it has one, laid over it.

    The metadata of a GGUF file is under "gguf", where each name begins with the architecture, which is removed.
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
