"""Documents in batches, for counting. A module of its own, since steps that do not count read texts too."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Documents(NamedTuple):
    """Some documents of a corpus: their texts, and the group of each ("" where there are none)."""

    texts: list[str]
    groups: list[str]


def by_group(batch: Documents) -> dict[str, list[str]]:
    """The texts of each group, in the order of the documents."""
    texts: dict[str, list[str]] = {}
    for text, group in zip(*batch, strict=True):
        texts.setdefault(group, []).append(text)
    return texts


def batched(documents: Iterable[tuple[str, str]], characters: int = 1 << 22) -> Iterator[Documents]:
    """Yield documents, (text, group) each, in lists of at most `characters` characters; a longer one is alone."""
    batch = Documents([], [])
    size = 0
    for text, group in documents:
        if batch.texts and size + len(text) > characters:
            yield batch
            batch, size = Documents([], []), 0
        batch.texts.append(text)
        batch.groups.append(group)
        size += len(text)
    if batch.texts:
        yield batch
