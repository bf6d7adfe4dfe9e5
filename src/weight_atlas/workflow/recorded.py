"""What a run was made with, as its jobs are given it: apart from run_config, which knows all classes of settings."""

import json
from typing import Any


def read(text: str) -> dict[str, Any]:
    """The values of such a text; an infinite factor, for which JSON has no number, is the text "Infinity"."""
    values = json.loads(text, parse_constant=str)
    assert isinstance(values, dict)
    return values
