"""The vectors of a configuration: what each is made from, and which products it has. Light: the workflow uses it."""

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weight_atlas.errors import AtlasError, unknown_name
from weight_atlas.natural_order import natural
from weight_atlas.paths import user_path
from weight_atlas.settings.base import Settings
from weight_atlas.settings.token_weights import HUB

COUNTS_FILE = ".npy"
# The steps of a vector, each with the key that its entry must give for it.
PRODUCTS: dict[str, str | None] = {
    "token_weights": None,
    "token_weight_frequency": "counts",
    "token_weight_evolution": "checkpoints",
}


class Vectors:
    """What the entries of `token_weights` in a checked configuration mean.

    names: of all vectors. An AtlasError for a model, tokenizer or corpus that is not known.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._entries: dict[str, dict[str, Any]] = config["token_weights"]
        self.names = list(self._entries)
        for name, entry in self._entries.items():
            _check(name, entry, config)

    def products_of(self, vector: str) -> list[str]:
        """The steps that a vector has: those that its entry gives the files for, in the order of a page's sections."""
        return [name for name, key in PRODUCTS.items() if key is None or self._entries[vector][key]]

    def having(self, product: str) -> list[str]:
        """The vectors that have a product."""
        return [name for name in self.names if product in self.products_of(name)]

    def options(self, vector: str, section: type[Settings]) -> dict[str, Any]:
        """The keys of a class of settings, by the vector's entry."""
        return {key: self._entries[vector][key] for key in section.model_fields}

    def model_of(self, vector: str) -> str | None:
        """The model whose matrix the vector is made of; None for one of a file."""
        return self._entries[vector]["model"]

    def origin(self, vector: str, patterns: dict[str, str]) -> dict[str, str]:
        """The files that a vector of a model is made from, by input; none for one of a file.

        patterns: their paths, with {model} in them.
        """
        model = self.model_of(vector)
        return {} if model is None else {name: path.format(model=model) for name, path in patterns.items()}

    def fetched(self, vector: str, pattern: str) -> dict[str, str]:
        """The manifest of a vector's file on the hub, by input; none for one of a local file or of a model."""
        return {"fetched": pattern.format(vector=vector)} if _on_hub(self._entries[vector]["source"]) else {}

    def tokenizer_of(self, vector: str) -> str | None:
        """The model or tokenizer of the configuration that says what the tokens are; None where nothing does."""
        entry = self._entries[vector]
        return entry["tokenizer"] or entry["model"]

    def texts(self, vector: str, of_model: str, of_tokenizer: str) -> dict[str, str]:
        """The file that says what the tokens are, by input: of a model's tokenizer, or of one alone."""
        name = self.tokenizer_of(vector)
        if name is None:
            return {}
        if name in self._config["models"]:
            return {"classes": of_model.format(model=name)}
        return {"tokenizer": of_tokenizer.format(tokenizer=name)}

    def counts(self, vector: str, patterns: dict[str, str]) -> dict[str, str]:
        """The files of a corpus's counts, by input; none where counts are a file of the user.

        patterns: with {model}, which is the tokenizer's name, and {corpus}.
        """
        counts = self._entries[vector]["counts"]
        if counts is None or counts.endswith(COUNTS_FILE):
            return {}
        named = {"model": self.tokenizer_of(vector), "corpus": counts}
        return {name: pattern.format(**named) for name, pattern in patterns.items()}

    def files(self, vector: str) -> list[str]:
        """The local files that the vector is read from."""
        columns = self._entries[vector]["columns"]
        named = [columns] if isinstance(columns, str) else []
        return [*self.source_file(vector), *(user_path(path).as_posix() for path in named)]

    def source_file(self, vector: str) -> list[str]:
        """The local file that the numbers lie in; none on the hub, and of a model."""
        source = self._entries[vector]["source"]
        return [] if source is None or _on_hub(source) else [user_path(source).as_posix()]

    def counts_file(self, vector: str) -> list[str]:
        """The file of counts that the user gives, if any."""
        counts = self._entries[vector]["counts"]
        return [user_path(counts).as_posix()] if counts and counts.endswith(COUNTS_FILE) else []

    def checkpoints(self, vector: str) -> list[str]:
        """The files of the training run, in order."""
        return [path.as_posix() for path in checkpoint_files(self._entries[vector]["checkpoints"] or [])]


def _on_hub(source: str | None) -> bool:
    return source is not None and source.startswith(HUB)


def _check(name: str, entry: dict[str, Any], config: dict[str, Any]) -> None:
    where = f"configuration: token_weights.{name}"
    if entry["model"] is not None and entry["model"] not in config["models"]:
        raise unknown_name("model", entry["model"], config["models"], f"{where}.model")
    known = [*config["models"], *config.get("tokenizers", {})]
    if entry["tokenizer"] is not None and entry["tokenizer"] not in known:
        raise unknown_name("tokenizer", entry["tokenizer"], known, f"{where}.tokenizer")
    counts = entry["counts"]
    if counts is None or counts.endswith(COUNTS_FILE):
        return
    if counts not in config["corpora"]:
        raise unknown_name("corpus", counts, config["corpora"], f"{where}.counts")
    if entry["tokenizer"] is None and entry["model"] is None:
        raise AtlasError(
            "the tokens of a corpus are counted by a tokenizer, and none is given",
            where=where,
            remedy="give `tokenizer`, or a .npy file of counts",
        )


def checkpoint_files(patterns: Iterable[str]) -> list[Path]:
    """The files that paths and patterns mean, each once: in their order, of one pattern in natural order.

    A path of a file that is not there stays, so that reading it says so.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = user_path(pattern)
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
        files = sorted(filter(Path.is_file, map(Path, matches)), key=lambda match: natural(match.as_posix()))
        found |= dict.fromkeys([path] if path.is_file() or not files else files)
    return list(found)
