"""Propagation of an edit: the residual stream with and without it, at every layer from that of the edit on.

Each layer's residual stream is read through the model's own final norm and head (the logit lens, with softcap and
scale). Averages are over the positions whose next token is scored, so that overlapping windows count no token twice;
and separately over the first position of each window, which has the start token or, without one, the attention sink,
and over the others.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import Edit, edited
from weight_atlas.live.layer_restart import LayerTrace, chain
from weight_atlas.live.memory import COMPARED, batch_within
from weight_atlas.live.scoring import joined
from weight_atlas.live.windows import Windows

VALUES = (
    "entropy", "entropy_edited", "margin", "margin_edited", "kl", "residual_cosine", "residual_norm",
    "residual_norm_edited",
)  # fmt: skip
POSITIONS = ("all", "first", "others")


def cascade(live: Anatomy, windows: Windows, targets: Sequence[Coordinate], *, factor: float, k: int) -> pd.DataFrame:
    """Follow the edit of each target (multiplied by `factor`) through the layers, averaged over positions of windows.

    Returns one row per target, layer and class of positions: all whose next token is scored, first (of every window,
    whether scored or not) and others (all but the first). Columns: target, layer, position, positions (number), the
    mean of each of VALUES, delta_entropy and delta_margin (edited minus baseline). kl: KL(baseline || edited) in nats.
    margin: probability of the likeliest token minus that of the k-th. residual_cosine: of the two streams;
    residual_norm: Euclidean.
    """
    sums: dict[tuple[int, int], np.ndarray] = {}
    counts = np.zeros(len(POSITIONS))
    for ids, scored in zip(windows.ids.split(1), windows.scored, strict=True):
        predicting = torch.cat([scored[1:], torch.zeros(1, dtype=torch.bool)])
        first = torch.arange(len(scored)) == 0
        positions = (predicting | first).nonzero()[:, 0]
        chosen = torch.stack([predicting, first, predicting & ~first])[:, positions].double()
        counts += chosen.sum(1).numpy()
        for target, layer, values in _followed(live, ids, positions, targets, factor, k):
            stacked = torch.stack([values[name].double().cpu() for name in VALUES])
            sums[target, layer] = sums.get((target, layer), 0.0) + (chosen @ stacked.T).numpy()
    rows = []
    for (target, layer), total in sorted(sums.items()):
        for position, number, values in zip(POSITIONS, counts, total, strict=True):
            if number:
                means = dict(zip(VALUES, values / number, strict=True))
                rows.append({"target": target, "layer": layer, "position": position, "positions": int(number), **means})
    return _with_deltas(pd.DataFrame(rows, columns=["target", "layer", "position", "positions", *VALUES]))


def cascade_of_text(
    live: Anatomy, ids: torch.Tensor, targets: Sequence[Coordinate], *, factor: float, k: int
) -> pd.DataFrame:
    """The same for each single position of one text, ids (1, length): target, layer, index, id, VALUES and deltas."""
    tables: dict[tuple[int, int], pd.DataFrame] = {}
    for target, layer, values in _followed(live, ids, torch.arange(ids.shape[1]), targets, factor, k):
        labels = {"target": target, "layer": layer, "index": np.arange(ids.shape[1]), "id": ids[0].numpy()}
        numbers = {name: values[name].double().cpu().numpy() for name in VALUES}
        tables[target, layer] = pd.DataFrame({**labels, **numbers})
    columns = ["target", "layer", "index", "id", *VALUES]
    return _with_deltas(
        pd.concat([tables[key] for key in sorted(tables)], ignore_index=True)
        if tables
        else pd.DataFrame(columns=columns)
    )


def _with_deltas(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        delta_entropy=table.entropy_edited - table.entropy, delta_margin=table.margin_edited - table.margin
    )


@torch.no_grad()
def _followed(
    live: Anatomy, ids: torch.Tensor, positions: torch.Tensor, targets: Sequence[Coordinate], factor: float, k: int
) -> Iterator[tuple[int, int, dict[str, torch.Tensor]]]:
    """Yield (target, layer, values (len(positions),)) of one window, ids (1, length), in any order."""
    if not targets:
        return
    plain = chain(live, ids)
    read = {layer: plain.states(stream, positions) for layer, stream in _after(plain, min(t.layer for t in targets))}
    # One reading of the unchanged model serves all targets whose states are in memory.
    kept = sum(states.numel() * states.element_size() for states in read.values())
    numbers = list(range(len(targets)))
    together = batch_within(len(targets), kept)
    for first in range(0, len(targets), together):
        group = numbers[first : first + together]
        changed: dict[tuple[int, int], torch.Tensor] = {}
        streams: dict[tuple[int, int], dict[str, torch.Tensor]] = {}
        for number in group:
            with edited(live, [Edit(targets[number], factor)]):
                trace = chain(live, ids)
            for layer, after in _after(trace, targets[number].layer):
                before, at = plain.streams[layer + 1], positions.to(after.device)
                changed[number, layer] = trace.states(after, positions)
                streams[number, layer] = _residuals_compared(before[0, at.to(before.device)], after[0, at])
        for layer, states in read.items():
            parts: dict[int, list[dict[str, torch.Tensor]]] = {n: [] for n in group if (n, layer) in changed}
            for _, part, logits in live.head.products(states, held=2) if parts else ():
                for number, compared in parts.items():
                    compared.append(_compared(logits, live.head.logits(changed[number, layer][0, part]), k))
            for number, compared in parts.items():
                yield number, layer, joined(compared) | streams[number, layer]


def _after(trace: LayerTrace, lowest: int) -> Iterator[tuple[int, torch.Tensor]]:
    """The numbers of the layers from a lowest one on, and the stream after each, (1, length, d_model)."""
    # streams holds the input of each layer and, last, the output of the last one.
    return ((layer, trace.streams[layer + 1]) for layer in range(lowest, len(trace.streams) - 1))


def _compared(plain: torch.Tensor, changed: torch.Tensor, k: int) -> dict[str, torch.Tensor]:
    """Entropies, margins and KL of two readings, logits (n, V), in float64: small divergences are differences."""
    parts = []
    rows = max(1, COMPARED // plain.shape[-1])
    for one, other in zip(plain.split(rows), changed.split(rows), strict=True):
        log_p, log_q = torch.log_softmax(one.double(), -1), torch.log_softmax(other.double(), -1)
        # log_softmax can be -inf, whose product with a probability of zero is taken as zero.
        log_p, log_q = log_p.clamp_min(-1e4), log_q.clamp_min(-1e4)
        p, q = log_p.exp(), log_q.exp()
        # The terms q - p sum to zero; with them no term is negative, so that cancellation happens within each term.
        kl = (p * (log_p - log_q) + (q - p)).sum(-1)
        parts.append((-(p * log_p).sum(-1), -(q * log_q).sum(-1), _margin(p, k), _margin(q, k), kl))
    names = ("entropy", "entropy_edited", "margin", "margin_edited", "kl")
    return {name: torch.cat(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)}


def _margin(p: torch.Tensor, k: int) -> torch.Tensor:
    top = p.topk(min(k, p.shape[-1]), dim=-1).values
    return top[:, 0] - top[:, -1]


def _residuals_compared(plain: torch.Tensor, changed: torch.Tensor) -> dict[str, torch.Tensor]:
    # Squares of massive activations overflow float16, and in bfloat16 the other channels are lost beside them.
    plain, changed = plain.double(), changed.double().to(plain.device)
    norms = plain.norm(dim=-1), changed.norm(dim=-1)
    cosine = (plain * changed).sum(-1) / (norms[0] * norms[1]).clamp_min(1e-300)
    return {"residual_cosine": cosine, "residual_norm": norms[0], "residual_norm_edited": norms[1]}
