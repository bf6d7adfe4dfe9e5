"""The order of names with numbers in them, and the numbers that tell them apart. Light: the workflow uses it."""

import re
from collections.abc import Sequence

# 1e3, and 10k, as steps are called, where no letter of a hash is beside them; else digits.
_NUMBER = re.compile(r"(?<![0-9A-Fa-f])([0-9]+)(?:e\+?([0-9]{1,2})|([kK]))(?![0-9A-Za-z])|[0-9]+")


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts names by the numbers in them: step_900 before step_1e3 and 5k, numbers before letters."""
    parts: list[tuple[int, int, str]] = []
    end = 0
    for found in _NUMBER.finditer(name):
        parts += [(1, 0, name[end : found.start()])] if found.start() > end else []
        parts.append((0, _value(found), found[0]))
        end = found.end()
    return parts + ([(1, 0, name[end:])] if end < len(name) else [])


def _value(found: re.Match[str]) -> int:
    digits, exponent, thousand = found.groups()
    if digits is None:
        return int(found[0])
    return int(digits) * (1000 if thousand else 10 ** int(exponent))


def numbers_of(names: Sequence[str]) -> list[int | None]:
    """The number that tells each name from the others, such as the step of a checkpoint; None for a name without it.

    The first number that is not the same in all names that have it. Where texts before it differ, or two names share
    it, it is no number of theirs, and all are None: run-a1 and run-b2 are no steps, and neither are hashes. A single
    name has none, since nothing says which of its numbers it would be.
    """
    found = [list(_NUMBER.finditer(name)) for name in names]
    for place in range(max(map(len, found), default=0)):
        there = [(name, matches[place]) for name, matches in zip(names, found, strict=True) if len(matches) > place]
        numbers = [_value(match) for _, match in there]
        if len(set(numbers)) == 1:
            continue
        alike = len({name[: match.start()] for name, match in there}) == 1
        if not alike or len(set(numbers)) < len(numbers):
            break
        return [_value(matches[place]) if len(matches) > place else None for matches in found]
    return [None] * len(names)


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the words that all begin with, as far as something is left of each: run-step10 as step10."""
    cut = 0
    for end in (match.end() for match in re.finditer("[-_./ ]", names[0] if names else "")):
        if not all(name[:end] == names[0][:end] and len(name) > end for name in names):
            break
        cut = end
    return [name[cut:] for name in names] if len(names) > 1 else list(names)
