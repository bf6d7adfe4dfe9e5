"""Parts of a large corpus of local files, which are counted each by itself. Light: every dry run imports it.

Which files a part has depends on their names and sizes alone. Small files are dealt by the hash of their names, large
ones are parts of their own, so that a file that changes changes its own part and no other.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from weight_atlas.errors import AtlasError
from weight_atlas.tokens.sources import local_files

MEGABYTE = 1_000_000
# Files of these kinds can be read from the middle on.
DIVISIBLE = (".jsonl", ".json", ".parquet")


class Share(NamedTuple):
    """One of several equal shares of a file: number (from 0) of how many."""

    path: str
    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of} {self.path}"


def parse_share(text: str) -> Share:
    """The share that a text of __str__ means."""
    place, _, path = text.partition(" ")
    number, _, of = place.partition("/")
    if not path or not (number.isdigit() and of.isdigit() and int(number) < int(of)):
        raise AtlasError("not a share of a file", where=text, remedy='write "0/1 PATH" for a whole file')
    return Share(path, int(number), int(of))


def corpus_parts(corpus: dict[str, Any]) -> dict[str, list[Share]]:
    """The parts of a corpus by their names; {} for one that is counted as a whole.

    corpus: its entry of the configuration. The first so many rows or documents are found by reading on from the
    beginning, so that such a corpus has no parts.
    """
    if corpus["limit"] is not None or corpus["max_documents"] is not None:
        return {}
    most = corpus["part_megabytes"] * MEGABYTE
    sizes = {path: Path(path).stat().st_size for path in local_files(corpus["source"])}
    if sum(sizes.values()) <= most:
        return {}
    large = {path for path, size in sizes.items() if size > most}
    small = sum(size for path, size in sizes.items() if path not in large)
    # A power of two, so that their number, on which all of them depend, seldom changes.
    hands = 1 << max(0, -(-small // most) - 1).bit_length()
    parts: dict[str, list[Share]] = {}
    for path, size in sizes.items():
        name = hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:16]
        if path not in large:
            parts.setdefault(f"files-{int(name, 16) % hands}-of-{hands}", []).append(Share(path))
            continue
        of = -(-size // most) if Path(path).suffix in DIVISIBLE else 1
        for number in range(of):
            parts[f"{name}-{number}-of-{of}"] = [Share(path, number, of)]
    return dict(sorted(parts.items()))
