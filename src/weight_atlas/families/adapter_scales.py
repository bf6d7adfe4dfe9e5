"""The scale of a LoRA adapter's updates, module by module, as PEFT computes it from adapter_config.json.

scale = alpha / rank, or alpha / sqrt(rank) where the adapter is rank-stabilized (arXiv:2312.03732). Alpha and rank are
those of the first pattern that matches the end of the module's name, else the common ones.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from weight_atlas.errors import AtlasError

WHERE = "adapter_config.json"
REMEDY = "restore the file as it was saved with the adapter"


class Scales:
    """Rank and scale of the updates of one adapter."""

    def __init__(self, config: Mapping[str, Any]):
        self._alpha = _number(config.get("lora_alpha"), "lora_alpha")
        self._rank = _number(config.get("r"), "r")
        self._alphas, self._ranks = _patterns(config, "alpha_pattern"), _patterns(config, "rank_pattern")
        self._stabilized, self._decomposed = bool(config.get("use_rslora")), bool(config.get("use_dora"))
        self._stacked = bool(config.get("target_parameters"))

    def of(self, module: str, stored: int) -> tuple[int, float | None]:
        """Rank and scale of the update of a module whose factors have `stored` rows or columns; None: not known.

        The factors of stacked experts lie side by side, so that they have a multiple of the rank; elsewhere what is
        stored is the rank.
        """
        declared = int(_first(self._ranks, module, self._rank) or 0)
        side_by_side = self._stacked and declared and stored % declared == 0
        rank = declared if side_by_side or not stored else stored
        alpha = _first(self._alphas, module, self._alpha)
        if not rank or alpha is None:
            return rank, None
        return rank, alpha / (math.sqrt(rank) if self._stabilized else rank)

    def describe(self, module: str, stored: int) -> str:
        """Rank and scale in words."""
        rank, scale = self.of(module, stored)
        words = [f"rank {rank}" + (f" for each of {stored // rank} experts" if rank and stored > rank else "")]
        said = _first(self._ranks, module, None)
        if said not in (None, rank):
            words[0] += f" (rank_pattern says {said:g})"
        if scale is not None:
            words.append(f"scale {scale:g}")
        return ", ".join([*words, *(["of a direction: the magnitude is apart (DoRA)"] if self._decomposed else [])])


def _first(patterns: list[tuple[re.Pattern[str], float | None]], module: str, common: float | None) -> float | None:
    return next((value for pattern, value in patterns if pattern.match(module)), common)


def _patterns(config: Mapping[str, Any], key: str) -> list[tuple[re.Pattern[str], float | None]]:
    given = config.get(key) or {}
    if not isinstance(given, dict):
        raise AtlasError(f"{key} must be an object, not {str(given)[:100]}", where=WHERE, remedy=REMEDY)
    found: list[tuple[re.Pattern[str], float | None]] = []
    for pattern, value in given.items():
        if isinstance(value, list):  # AdaLoRA: which of the singular values are kept
            value = sum(map(bool, value))
        try:
            found.append((re.compile(rf"(.*\.)?({pattern})$"), _number(value, f"{key} of {pattern}")))
        except (re.error, RecursionError, OverflowError) as error:
            what = f"{key}: {pattern} is not a regular expression: {error}"
            raise AtlasError(what, where=WHERE, remedy=REMEDY) from error
    return found


def _number(value: Any, key: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AtlasError(f"{key} must be a number, not {str(value)[:100]}", where=WHERE, remedy=REMEDY)
    return value
