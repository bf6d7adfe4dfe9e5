"""The sizes of one model by name: from config.json, or, where it does not give one, as the tensors have it."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from weight_atlas.families.quantities import WHOLE_MODEL, Quantities


@dataclass(frozen=True)
class Place:
    """Where a size counts: the stack, the layer and its kind."""

    stack: str
    layer: int | None = None
    kind: str | None = None


class Sizes:
    """Quantities and keys of config.json, and sums of products of them; unknown ones are inferred from tensors."""

    def __init__(self, quantities: Quantities):
        self._quantities = quantities
        self._inferred: dict[tuple, int] = {}
        self._known: dict[tuple[str, Place], int | None] = {}
        self._kinds: dict[int | None, str | None] = {}

    def place(self, stack: str, layer: int | None) -> Place:
        """The place of a tensor."""
        if layer not in self._kinds:
            kind = self._quantities.kind(layer)
            self._kinds[layer] = None if kind is None else str(kind)
        return Place(stack, layer, self._kinds[layer])

    def of(self, word: str, place: Place) -> int | None:
        """One factor: a number, a quantity or a key of config.json."""
        if (word, place) not in self._known:
            self._known[word, place] = int(word) if word.isdigit() else self._look_up(word, place)
        return self._known[word, place]

    def _look_up(self, word: str, place: Place) -> int | None:
        encoder = self._quantities.size(f"encoder_{word}", place.layer) if place.stack == "encoder" else None
        value = encoder if encoder is not None else self._quantities.size(word, place.layer)
        if isinstance(value, list):  # differs by layer, and this place is in none
            value = None
        return self._inferred.get((word, *_scope(word, place))) if value is None else value

    def value(self, expression: str, place: Place) -> int | None:
        """The value of a sum of products, as "kv_rank + 2*head_width"; None if a factor is not known."""
        total = 0
        for term in _terms(expression):
            values = [value for word in term if (value := self.of(word, place)) is not None]
            if len(values) < len(term):
                return None
            total += math.prod(values)
        return total

    def infer(self, found: Iterable[tuple[str, Place, int]]) -> None:
        """Take what config.json does not give from sizes found: what most say, single ones first, then factors."""
        products = [(terms[0], place, size) for text, place, size in found if len(terms := _terms(text)) == 1]
        for alone in (True, False):
            votes: dict[tuple, Counter] = defaultdict(Counter)
            for words, place, size in products:
                unknown = [word for word in words if self.of(word, place) is None]
                if len(unknown) != 1 or (len(words) == 1) != alone:
                    continue
                known = math.prod(value for word in words if (value := self.of(word, place)))
                if size and size % known == 0:
                    votes[unknown[0], *_scope(unknown[0], place)][size // known] += 1
            for (word, *scope), counts in votes.items():
                self._inferred[word, *scope] = counts.most_common(1)[0][0]
                if not scope:
                    self._quantities.infer(word, self._inferred[word, *scope])
            self._known.clear()

    def explain(self, expression: str, place: Place) -> str:
        """The factors of an expression with their values and where they come from, for a message."""
        words = dict.fromkeys(word for term in _terms(expression) for word in term if not word.isdigit())
        return ", ".join(f"{word} = {self.of(word, place)} ({self._origin(word, place)})" for word in words)

    def _origin(self, word: str, place: Place) -> str:
        for name in (f"encoder_{word}", word) if place.stack == "encoder" else (word,):
            if use := self._quantities.source(name, place.layer):
                return f"{self._quantities.keys(use, place.layer)} in config.json"
        return "in config.json" if self._quantities.key(word) is not None else "as other tensors have it"


def _terms(expression: str) -> list[list[str]]:
    return [[word.strip() for word in term.split("*")] for term in expression.split("+")]


def _scope(word: str, place: Place) -> tuple:
    return () if word in WHOLE_MODEL else (place.stack, place.kind)
