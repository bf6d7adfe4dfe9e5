"""First-order effect of every weight on the loss, from one backward pass: where to look for weights that matter.

Setting a weight w to zero changes the loss by about -w · dL/dw, the first term of its Taylor series (LeCun et al. 1989,
"Optimal Brain Damage"; Molchanov et al. 2017, arXiv 1611.06440). That is no measure of what the removal of a weight
costs on which everything depends: far from the weight's value the series does not hold. But it needs no massive
activation and no particular matrix, and orders the weights of all matrices by one scale. What comes first is removed
in earnest by the verification.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from weight_atlas.families.layouts import extract
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.gradients import Backward, visit_gradients
from weight_atlas.live.parts import Part
from weight_atlas.live.windows import Windows, drawn_windows
from weight_atlas.settings.super_weights import WeightAttribution
from weight_atlas.super_weights.screening import largest

ELEMENT, ROW, COLUMN = "element", "row", "column"
# What is written of a part: its name in an inventory, and the live parameter that it lies in.
PLACE = ("role", "component", "layer", "expert", "parameter")
COLUMNS = (
    "kind", *PLACE, "row", "column", "weight", "effect", "rank", "rank_in_model", "random_median", "random_p99",
)  # fmt: skip
# Products that exist at one time beside a parameter and its gradient.
PRODUCTS = 1 << 22
# Random elements of a matrix (rows, columns) that stand for the others.
RANDOM = 4096


# Rows of each kind in the table that people read.
READABLE = 100


@dataclass(frozen=True)
class Attribution:
    """What a backward pass says of every weight.

    table: the largest of every part, COLUMNS; largest effect of the model first. backward: the pass itself. searched:
    number of weights with an effect; unsearched: why others have none -> names of live parameters.
    """

    table: pd.DataFrame
    backward: Backward
    searched: int
    unsearched: dict[str, list[str]]

    def first(self) -> pd.DataFrame:
        """The rows of the largest effects of each kind in the whole model."""
        return self.table[self.table.rank_in_model <= READABLE].reset_index(drop=True)


@dataclass
class _Found:
    rows: list[dict] = field(default_factory=list)
    searched: int = 0
    seen: set[int] = field(default_factory=set)


def attribute(live: Anatomy, windows: Windows, settings: WeightAttribution) -> Attribution:
    """The weights, rows and columns of every matrix and vector with the largest first-order effect on the loss.

    effect, nats per token: the change of the mean negative log-likelihood of the windows' scored tokens that setting
    the weights to zero would make if the loss were linear in them; of a row or column the sum over its weights.
    random_median and random_p99: of |effect| of RANDOM elements (rows, columns) of the same part, all of them where it
    has fewer. A tied matrix is counted once, with the effect of all its uses. Products are made in float32, whatever
    the type of the weights. The same model and windows give the same table.
    """
    parts: dict[int, list[Part]] = defaultdict(list)
    for part in live.parts:
        if all(other.selection != part.selection for other in parts[id(part.parameter)]):
            parts[id(part.parameter)].append(part)
    found = _Found()

    def visit(parameter: torch.nn.Parameter, gradient: torch.Tensor) -> None:
        found.seen.add(id(parameter))
        for number, part in enumerate(parts[id(parameter)]):
            random = np.random.default_rng([settings.seed, number])
            found.searched += _add(found.rows, part, parameter, gradient, settings.top, random)

    backward = visit_gradients(live, windows, visit, memory=round(settings.memory * 2**30))
    return Attribution(_table(found.rows), backward, found.searched, _unsearched(live, found.seen))


def attributed(live: Anatomy, tokenizer: Any, corpus: pd.DataFrame, settings: WeightAttribution) -> Attribution:
    """Attribute the loss on text drawn from all over a corpus of documents (column text); see attribute."""
    windows = drawn_windows(
        corpus,
        tokenizer,
        window=settings.window,
        tokens=settings.tokens,
        limit=live.context,
        where=settings.corpus,
        seed=settings.seed,
    )
    return attribute(live, windows, settings)


def summary(found: Attribution) -> dict[str, Any]:
    """The pass and what was searched, as an artifact."""
    return {
        "schema": 1,
        "nll": found.backward.nll,
        "tokens": found.backward.tokens,
        "weights": found.searched,
        "unsearched": found.unsearched,
    }


def _table(rows: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table = table.astype(dict.fromkeys(("layer", "expert", "row", "column", "rank_in_model"), "Int64"))
    # Of equal effects the first in the model's order comes first.
    order = table.assign(size=table.effect.abs()).sort_values("size", ascending=False, kind="stable").index
    table = table.loc[order]
    table["rank_in_model"] = table.groupby("kind", sort=False).cumcount() + 1
    return table.reset_index(drop=True)


def _unsearched(live: Anatomy, seen: set[int]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, parameter in live.model.named_parameters():
        if id(parameter) not in seen:
            reason = "takes no part in the prediction" if parameter.is_floating_point() else "is no number"
            reasons.setdefault(reason, []).append(name)
    return reasons


def _add(
    rows: list[dict], part: Part, parameter: torch.nn.Parameter, gradient: torch.Tensor, top: int,
    random: np.random.Generator,
) -> int:  # fmt: skip
    """Add the largest elements, rows and columns of a part; return how many elements it has."""
    weights, slopes = extract(parameter.data, part.selection), extract(gradient, part.selection)
    vector = weights.ndim == 1
    if vector:
        weights, slopes = weights[:, None], slopes[:, None]
    if not weights.numel():
        return 0
    sums, sample, (effects, places) = _summed(weights, slopes, top, random)
    columns = weights.shape[1]
    place = {
        "role": f"{part.of_role}.bias" if part.of_role else str(part.role),
        "component": part.component,
        "layer": part.layer,
        "expert": part.expert,
        "parameter": part.name,
    }
    for rank, (effect, at) in enumerate(zip(effects.tolist(), places.tolist(), strict=True), start=1):
        row, column = divmod(at, columns)
        rows.append(
            place
            | {"kind": ELEMENT, "row": row, "column": None if vector else column}
            | {"weight": float(weights[row, column]), "effect": effect, "rank": rank, **_null(sample)}
        )
    for kind, each in () if vector else ((ROW, sums[0]), (COLUMN, sums[1])):
        drawn = each[torch.from_numpy(random.permutation(len(each))[:RANDOM])]
        for rank, at in enumerate(largest(each.abs(), top)[1].tolist(), start=1):
            rows.append(place | {"kind": kind, kind: at, "effect": float(each[at]), "rank": rank, **_null(drawn)})
    return weights.numel()


def _null(effects: torch.Tensor) -> dict[str, float]:
    median, p99 = np.quantile(effects.abs().double().numpy(), (0.5, 0.99))
    return {"random_median": float(median), "random_p99": float(p99)}


def _summed(
    weights: torch.Tensor, slopes: torch.Tensor, top: int, random: np.random.Generator
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Effects of a matrix, block by block: sums of rows and of columns (float64), a sample, the largest with places."""
    count = weights.numel()
    chosen = np.arange(count) if count <= RANDOM else np.sort(random.integers(0, count, RANDOM))
    by_row: list[torch.Tensor] = []
    by_column = torch.zeros(weights.shape[1], dtype=torch.float64)
    sample, values, places = [], [], []
    for start, effects in _effects(weights, slopes):
        by_row.append(effects.sum(1, dtype=torch.float64))
        by_column += effects.sum(0, dtype=torch.float64)
        flat = effects.flatten()
        first, last = np.searchsorted(chosen, (start, start + len(flat)))
        sample.append(flat[torch.from_numpy(chosen[first:last] - start)])
        _, at = largest(flat.abs(), top)
        values.append(flat[at])
        places.append(at + start)
    size, place = torch.cat(values), torch.cat(places)
    order = size.abs().sort(descending=True, stable=True).indices[:top]
    return (torch.cat(by_row), by_column), torch.cat(sample), (size[order], place[order])


def _effects(weights: torch.Tensor, slopes: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """First flat place of each block of rows, and its effects in float32 on the CPU."""
    height = max(1, PRODUCTS // weights.shape[1])
    for start in range(0, len(weights), height):
        block = slice(start, start + height)
        yield start * weights.shape[1], (weights[block].float() * slopes[block].float()).neg_().cpu()
