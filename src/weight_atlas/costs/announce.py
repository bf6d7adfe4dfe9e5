"""What a run will cost, said before any of its steps runs. Light where none of them runs a model."""

from collections.abc import Callable, Collection
from typing import Any

from weight_atlas.costs.plan import STEPS


def announce(config: dict[str, Any], due: Collection[tuple[str, ...]], cores: int, say: Callable[[str], None]) -> None:
    """Say what the due steps that run models will cost. due: (step, model, *of); see plan.Planned.

    What goes wrong here is said, and does not stop the run.
    """
    if not {step for step, *_ in due} & STEPS:
        return
    from functools import cache

    from weight_atlas.costs.estimate import as_text, estimates
    from weight_atlas.costs.machine import probe

    timed = cache(lambda: probe(cores))
    try:
        if found := estimates(config, timed, due):
            say(as_text(found, timed()))
    except Exception as error:
        say(f"The cost of this run could not be estimated: {type(error).__name__}: {error}")
