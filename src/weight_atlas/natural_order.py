"""The order of names with numbers in them, and the numbers that tell them apart. Light: the workflow uses it."""

import re
from collections.abc import Sequence

_NUMBER = re.compile("[0-9]+")


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts names by the numbers in them: step_900 before step_5000, numbers before letters."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts]


def numbers_of(names: Sequence[str]) -> list[int | None]:
    """The number that tells each name from the others, such as the step of a checkpoint; None for a name without it.

    The first number that is not the same in all names that have it. Where texts before it differ, or two names share
    it, it is no number of theirs, and all are None: run-a1 and run-b2 are no steps, and neither are hashes. A single
    name has none, since nothing says which of its numbers it would be.
    """
    found = [list(_NUMBER.finditer(name)) for name in names]
    for place in range(max(map(len, found), default=0)):
        there = [(name, matches[place]) for name, matches in zip(names, found, strict=True) if len(matches) > place]
        numbers = [int(match[0]) for _, match in there]
        if len(set(numbers)) == 1:
            continue
        alike = len({name[: match.start()] for name, match in there}) == 1
        if not alike or len(set(numbers)) < len(numbers):
            break
        return [int(matches[place][0]) if len(matches) > place else None for matches in found]
    return [None] * len(names)


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the words that all begin with, as far as something is left of each: run-step10 as step10."""
    cut = 0
    for end in (match.end() for match in re.finditer("[-_./ ]", names[0] if names else "")):
        if not all(name[:end] == names[0][:end] and len(name) > end for name in names):
            break
        cut = end
    return [name[cut:] for name in names] if len(names) > 1 else list(names)
