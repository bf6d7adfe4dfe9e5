"""What no tokenizer of a model has, and what would fill the memory of whoever runs it: refused before it is run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weight_atlas.errors import AtlasError

MOST_IDS = 1 << 24  # a table has a row for each id; vocabularies have less than a million
MOST_GROWTH = 100  # characters for each character of a text
_REMEDY = "get the tokenizer from a source that you trust"


def check_ids(ids: Iterable[int], where: Path) -> None:
    """AtlasError for ids that would make a vocabulary larger than any."""
    if (largest := max(ids, default=0)) >= MOST_IDS:
        raise AtlasError(
            f"the tokenizer has a token of id {largest}, beyond the {MOST_IDS:,} of any vocabulary",
            where=where, remedy=_REMEDY,
        )  # fmt: skip


def check_growth(backend: Any, where: Path) -> None:
    """AtlasError for replacements that, one after the other, multiply a text. backend: a tokenizers.Tokenizer."""
    for part in ("normalizer", "decoder"):
        component = getattr(backend, part)
        factor = 1 if component is None else growth(json.loads(component.__getstate__()))
        if factor > MOST_GROWTH:
            raise AtlasError(
                f"the tokenizer's {part} can make a text {factor:,} times as long", where=where, remedy=_REMEDY
            )


def growth(step: dict[str, Any]) -> int:
    """By how much, at most, the replacements of a normalizer or decoder multiply the characters of a text."""
    factor = 1
    for inner in (*(step.get("normalizers") or ()), *(step.get("decoders") or ())):
        factor *= growth(inner)
    if step.get("type") != "Replace":
        return factor
    pattern, content = step["pattern"], step["content"]
    replaced = len(pattern["String"]) if "String" in pattern else 1
    return factor * max(1, -(-len(content) // max(1, replaced)))
