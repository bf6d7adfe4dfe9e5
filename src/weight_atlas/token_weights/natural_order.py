"""The order of names with numbers in them. Light: the workflow uses it."""

import re


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts names by the numbers in them: step_900 before step_5000, numbers before letters."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts]
