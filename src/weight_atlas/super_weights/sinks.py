"""Attention sinks and value drains: what every head gives to the positions of massive activations, and what it reads.

Of one window, with weights A[q, k] of queries q on the keys that they see: the share of a set of positions S is the
mean over the queries after its first of the sum of A[q, k] over k in S; uniform, what they would have if every query
gave all keys that it sees the same. Sinks are read by heads that have nothing to say (Xiao et al., arXiv 2309.17453);
their value vectors are small, so that such attention adds little (Guo et al., arXiv 2410.13835).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pandas as pd
import torch

from weight_atlas.errors import NotApplicable
from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.attention import attention_observed
from weight_atlas.live.edits import edited, zero
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.windows import Windows

COLUMNS = (
    "layer", "head", "kv_head", "on", "share", "uniform", "exceed_share", "value_ratio", "share_without",
    "value_ratio_without",
)  # fmt: skip
# Queries that must see a position before it is compared with a sink.
FEWEST = 8
FIRST, MASSIVE = "first token", "massive activations"
KEYS = ["layer", "head", "kv_head"]


def head_sinks(
    live: Anatomy, windows: Windows, positions: Sequence[Sequence[int]], super_weights: Sequence[Coordinate]
) -> pd.DataFrame:
    """One row per layer and head: attention on some positions of each window, and the size of the values there.

    live: loaded with eager attention. positions: of massive activations; the first of a window that has none. share and
    uniform: see above, mean over windows; exceed_share: of the other positions, seen by FEWEST queries or more, those
    whose attention, beside what uniform attention would give them, is as large. value_ratio: mean norm of the value
    vectors at the positions over the median of the others, of the key-value head that the head reads. *_without: on the
    same positions with all super weights zeroed. Runs the model once over every window, and once more with super
    weights; the weights of one layer exist at a time. NotApplicable for models that give no attention weights.
    """
    tables = {"": _measured(live, windows, positions)}
    if tables[""].empty:
        raise NotApplicable(
            "the model gives no attention weights", remedy="attention sinks cannot be told for its kind of attention"
        )
    if super_weights:
        with edited(live, map(zero, super_weights)):
            tables["_without"] = _measured(live, windows, positions)
    table = tables[""].groupby(KEYS, as_index=False, sort=True).mean()
    if super_weights:
        without = tables["_without"].groupby(KEYS, as_index=False).mean()[[*KEYS, "share", "value_ratio"]]
        table = table.merge(without, on=KEYS, suffixes=("", "_without"), how="left")
    table["on"] = MASSIVE if any(positions) else FIRST
    return table.reindex(columns=list(COLUMNS))


def _measured(live: Anatomy, windows: Windows, positions: Sequence[Sequence[int]]) -> pd.DataFrame:
    rows: list[dict] = []
    for number in range(len(windows)):
        ids, sinks = windows.ids[number : number + 1], list(positions[number]) or [0]
        values: dict[int, torch.Tensor] = {}
        attention: dict[int, tuple[torch.Tensor, float, torch.Tensor]] = {}

        def note(layer: int, weights: torch.Tensor, attention=attention, sinks=sinks) -> None:
            attention[layer] = sink_shares(weights[0].float(), sinks)

        explained = out_of_memory_explained(f"attention weights of a window of {ids.shape[1]} tokens")
        with attention_observed(live, note), _value_norms(live, values), explained:
            live.head.run(ids)
            if not attention:
                # Older families return weights where they are asked for alone, those of all layers together.
                live.head.run(ids, output_attentions=True)
        for layer, (share, uniform, exceed) in sorted(attention.items()):
            drains = _drains(values.get(layer), sinks)
            for head in range(len(share)):
                kv = head * len(drains) // len(share) if len(drains) else None
                rows.append(
                    {
                        "layer": layer,
                        "head": head,
                        "kv_head": -1 if kv is None else kv,
                        "share": float(share[head]),
                        "uniform": uniform,
                        "exceed_share": float(exceed[head]),
                        "value_ratio": float("nan") if kv is None else float(drains[kv]),
                    }
                )
    return pd.DataFrame(rows, columns=[*KEYS, "share", "uniform", "exceed_share", "value_ratio"])


def sink_shares(weights: torch.Tensor, sinks: Sequence[int]) -> tuple[torch.Tensor, float, torch.Tensor]:
    """(share, uniform, exceed_share) of some positions, of attention weights (heads, queries, keys): (heads,) each.

    Which keys a query sees is read off the weights: of those that it does not see, every head's are zero.
    """
    length = weights.shape[1]
    index = torch.arange(length, device=weights.device)
    seen = (weights > 0).any(0)
    each = seen / seen.sum(1, keepdim=True).clamp_min(1)
    queries = index > min(sinks)
    if not bool(queries.any()):
        nothing = torch.full((len(weights),), float("nan"))
        return nothing, float("nan"), nothing
    share = weights[:, queries][:, :, sinks].sum(-1).mean(-1)
    uniform = float(each[queries][:, sinks].sum(-1).mean())
    later = seen & (index[:, None] > index[None])
    counts = later.sum(0)
    others = counts >= FEWEST
    others[sinks] = False
    if not bool(others.any()) or uniform == 0:
        return share.cpu(), uniform, torch.full((len(weights),), float("nan"))
    got = (weights * later).sum(1)[:, others] / (each * later).sum(0)[others]
    return share.cpu(), uniform, (got >= (share / uniform)[:, None]).float().mean(1).cpu()


def _drains(norms: torch.Tensor | None, sinks: list[int]) -> torch.Tensor:
    """Mean norm at some positions over the median of the others, (kv_heads,), from norms (length, kv_heads)."""
    if norms is None:
        return torch.empty(0)
    others = torch.ones(len(norms), dtype=torch.bool)
    others[sinks] = False
    if not bool(others.any()):
        return torch.full((norms.shape[1],), float("nan"))
    return norms[sinks].mean(0) / norms[others].median(0).values


@contextmanager
def _value_norms(live: Anatomy, kept: dict[int, torch.Tensor]) -> Iterator[None]:
    """Keep, by layer, the norms of the value vectors of the next pass over one window: (length, kv_heads).

    They are computed from W_V and what its module is given, whatever else lies in the same matrix.
    """
    heads = live.architecture.quantities
    count = heads.of("n_kv_heads") or heads.of("n_heads") or 1

    def keep(layer: int, matrix: torch.Tensor, bias: torch.Tensor | None):
        def look(module: torch.nn.Module, inputs: tuple) -> None:
            x = inputs[0].detach()[0]
            values = x @ matrix.T if bias is None else x @ matrix.T + bias
            kept[layer] = values.unflatten(-1, (count, -1)).float().norm(dim=-1).cpu()

        return look

    with ExitStack() as hooks:
        for layer in range(len(live.layers)):
            for part in live.parts_of(Role.W_V, layer):
                biases = [each for each in live.parts_of(Role.BIAS, layer) if each.of_role is Role.W_V]
                if part.shape[0] % count == 0:
                    hook = keep(layer, part.values(), biases[0].values() if biases else None)
                    hooks.callback(live.model.get_submodule(part.module).register_forward_pre_hook(hook).remove)
        yield
