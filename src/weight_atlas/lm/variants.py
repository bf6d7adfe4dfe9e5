"""Score many variants of a model's weights on the same windows, sharing what they have in common.

Each variant is a set of edits. On a model that is a chain of layers (lm.restart) a variant starts at the first layer it
edits, and variants past their edited layers go on as one batch. An edit of a single weight of a linear projection adds
(w' - w) x[col] to channel `row` of the layer's output; where that holds (no norm after the MLP), the layer is not even
run again. Other models take the plain route: one forward pass per variant, with the same result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from weight_atlas.lm.anatomy import Anatomy
from weight_atlas.lm.edits import Edit, edited, value_at
from weight_atlas.lm.load import out_of_memory_explained
from weight_atlas.lm.metrics import window_sums
from weight_atlas.lm.restart import Chain, chain, is_chain, logits_at
from weight_atlas.lm.windows import Windows

Variant = tuple[Edit, ...]
# Logits that exist at one time.
LOGITS = 1 << 27


@dataclass(frozen=True)
class Route:
    """How variants of a model can be computed: restarted at a layer, and by adding a single weight's difference."""

    restart: bool
    additive: bool


def route_of(live: Anatomy, ids: torch.Tensor, sample: Edit | None = None) -> Route:
    """Find out by trying: ids (1, length) is a window, sample an edit of a single weight, as the variants will have."""
    if not is_chain(live, ids):
        return Route(False, False)
    return Route(True, sample is not None and _adds(live, ids, sample))


@torch.no_grad()
def score_variants(
    live: Anatomy, windows: Windows, variants: Sequence[Variant], route: Route, *, batch_size: int = 16
) -> list[pd.DataFrame]:
    """Per-window sums of nll for the unchanged model (first) and every variant; see lm.metrics.window_sums.

    batch_size: variants that go through a layer together.
    """
    rows: list[list[pd.DataFrame]] = [[] for _ in range(len(variants) + 1)]
    for number in range(len(windows)):
        window = Windows(windows.ids[number : number + 1], windows.scored[number : number + 1])
        with out_of_memory_explained(f"{batch_size} variants of a window of {window.ids.shape[1]} tokens"):
            scores = _restarted if route.restart else _plain
            for variant, sums in scores(live, window, variants, route, batch_size):
                rows[variant + 1].append(sums)
    return [pd.concat(each, ignore_index=True).rename_axis("window").reset_index() for each in rows]


def _plain(
    live: Anatomy, window: Windows, variants: Sequence[Variant], route: Route, batch_size: int
) -> Iterator[tuple[int, pd.DataFrame]]:
    positions, targets = _targets(window)
    for number in range(-1, len(variants)):
        with edited(live, () if number < 0 else variants[number]):
            yield number, _target_sums(logits_at(live, window.ids, positions), targets)


def _restarted(
    live: Anatomy, window: Windows, variants: Sequence[Variant], route: Route, batch_size: int
) -> Iterator[tuple[int, pd.DataFrame]]:
    positions, targets = _targets(window)
    singles = [edits[0] for edits in variants if route.additive and _is_single(live, edits)]
    way = chain(live, window.ids, {edit.coordinate for edit in singles})
    yield from _scored(way, [-1], way.streams[-1], positions, targets)
    first = [min(edit.coordinate.layer for edit in variant) for variant in variants]
    order = sorted(range(len(variants)), key=lambda number: (first[number], number))
    for start in range(0, len(order), batch_size):
        members, hidden = climb(way, variants, order[start : start + batch_size], route.additive)
        yield from _scored(way, members, hidden, positions, targets)


def climb(
    way: Chain, variants: Sequence[Variant], members: Sequence[int], additive: bool
) -> tuple[list[int], torch.Tensor]:
    """Take some variants through the layers together.

    Returns their numbers and what the last layer leaves of each, (len(members), length, d_model). A variant joins at
    the first layer that it edits; while a layer has edits of a variant, the variant passes it alone.
    """
    at = {number: _by_layer(variants[number]) for number in members}
    joined: list[int] = []
    hidden: torch.Tensor | None = None
    for layer in range(min(min(edits) for edits in at.values()), len(way.calls)):
        plain = [place for place, number in enumerate(joined) if layer not in at[number]]
        outputs = {joined[place]: None for place in plain}
        if plain:
            together = way.layer(layer, hidden if len(plain) == len(joined) else hidden[plain])
            outputs = {joined[place]: together[i] for i, place in enumerate(plain)}
        for place, number in enumerate(joined):
            if layer in at[number]:
                with edited(way.live, at[number][layer]):
                    outputs[number] = way.layer(layer, hidden[place : place + 1])[0]
        new = [number for number in members if min(at[number]) == layer]
        outputs |= _newcomers(way, layer, {number: at[number][layer] for number in new}, additive)
        joined = joined + new
        if joined:
            whole = len(plain) == len(joined)
            hidden = together if whole else torch.stack([outputs[number] for number in joined])
    return joined, hidden


def _by_layer(variant: Variant) -> dict[int, list[Edit]]:
    layers: dict[int, list[Edit]] = {}
    for edit in variant:
        layers.setdefault(edit.coordinate.layer, []).append(edit)
    return layers


def _newcomers(way: Chain, layer: int, edits: dict[int, list[Edit]], additive: bool) -> dict[int, torch.Tensor]:
    """What the layer leaves of variants that begin with it, (length, d_model) each."""
    quick = {
        number: each[0]
        for number, each in edits.items()
        if additive and len(each) == 1 and each[0].coordinate in way.inputs
    }
    outputs = _added(way, layer, quick) if quick else {}
    for number, each in edits.items():
        if number not in outputs:
            with edited(way.live, each):
                outputs[number] = way.layer(layer, way.streams[layer])[0]
    return outputs


def _is_single(live: Anatomy, edits: Sequence[Edit]) -> bool:
    place = edits[0].coordinate
    single = len(edits) == 1 and place.role == "W_down" and None not in (place.row, place.col)
    return single and not live.projection(place).stacked


def _added(way: Chain, layer: int, edits: dict[int, Edit]) -> dict[int, torch.Tensor]:
    """Outputs of a layer with single weights changed, from its unchanged output and the neurons' activations.

    Variants whose difference is not small beside what remains are left out: what is left after a large number is taken
    away again has lost its digits.
    """
    output = way.streams[layer + 1][0]
    typical = output.abs().float().median()
    outputs = {}
    for number, edit in edits.items():
        place, weight = edit.coordinate, value_at(way.live, edit.coordinate)
        dtype = way.live.projection(place).parameter.dtype
        changed = torch.tensor(weight * edit.factor + edit.offset, dtype=dtype).item()
        difference = ((changed - weight) * way.inputs[place]).to(output.device)
        channel = output[:, place.row].float() + difference
        if bool((difference.abs() <= torch.maximum(channel.abs(), typical)).all()):
            outputs[number] = output.clone()
            outputs[number][:, place.row] = channel.to(output.dtype)
    return outputs


@torch.no_grad()
def _adds(live: Anatomy, ids: torch.Tensor, sample: Edit) -> bool:
    """Whether changing one weight adds (w' - w) x[col] to its channel of the layer's output, and nothing elsewhere.

    Tried with a change ten times as large as the stream, which no rounding hides: a norm would cut it down.
    """
    if not _is_single(live, [sample]):
        return False
    place = sample.coordinate
    way = chain(live, ids, [place])
    x, before = way.inputs[place], way.streams[place.layer + 1][0].float()
    if not x.any():
        return False
    large = Edit(place, offset=float(10 * before.abs().max() / x.abs().max()))
    weight = value_at(live, place)
    with edited(live, [large]):
        change = way.layer(place.layer, way.streams[place.layer])[0].float() - before
        expected = (value_at(live, place) - weight) * x.to(change.device)
    change[:, place.row] -= expected
    return bool(change.abs().max() <= 0.02 * expected.abs().max())


def _scored(
    way: Chain, members: Sequence[int], hidden: torch.Tensor, positions: torch.Tensor, targets: Windows
) -> Iterator[tuple[int, pd.DataFrame]]:
    vocabulary = way.live.model.get_output_embeddings().weight.shape[0]
    size = max(1, LOGITS // (len(positions) * vocabulary))
    for start in range(0, len(members), size):
        part = members[start : start + size]
        logits = way.logits(hidden[start : start + size], positions)
        for place, number in enumerate(part):
            yield number, _target_sums(logits[place : place + 1], targets)


def _targets(window: Windows) -> tuple[torch.Tensor, Windows]:
    """Positions whose logits are needed, and the tokens that they are to predict."""
    positions = window.scored[0].nonzero()[:, 0] - 1
    return positions, Windows(window.ids[:, positions + 1], torch.ones(1, len(positions), dtype=torch.bool))


def _target_sums(logits: torch.Tensor, targets: Windows) -> pd.DataFrame:
    """Sums over logits that stand at the positions of their targets already, (1, n, V)."""
    shifted = Windows(
        torch.cat([targets.ids[:, :1], targets.ids], dim=1),
        torch.cat([torch.zeros_like(targets.scored[:, :1]), targets.scored], dim=1),
    )
    return window_sums(logits, shifted)
