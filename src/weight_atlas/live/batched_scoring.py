"""Score many variants of a model's weights on the same windows, sharing what they have in common.

Each variant is a set of edits. Where its shortcuts allow (live.shortcuts) it starts at the first layer it edits, and
variants past their edited layers go on as one batch. An edit of a single weight adds (w' - w) x[col] to channel `row`
of its projection's output: then only what follows in the layer is run again (live.layer_tail), for all such variants
together. Other variants take the plain route: one forward pass each, with the same result.
"""

from collections.abc import Iterator, Sequence

import pandas as pd
import torch

from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.edits import Edit, change_of, edited
from weight_atlas.live.layer_restart import LayerTrace, chain
from weight_atlas.live.layer_tail import LayerTail
from weight_atlas.live.memory import batch_within, out_of_memory_explained
from weight_atlas.live.scoring import Measure, finite_or_infinite, joined, token_nll, window_sums
from weight_atlas.live.shortcuts import Shortcuts, Variant, first_layer, is_single
from weight_atlas.live.windows import Windows

# Tokens in one batch on a CPU: more gain nothing, and beyond its caches they lose.
CPU_TOKENS = 1024


@torch.no_grad()
def score_edits(
    live: Anatomy,
    windows: Windows,
    variants: Sequence[Variant],
    route: Shortcuts,
    *,
    batch_size: int = 16,
    measures: Sequence[Measure] | None = None,
) -> list[pd.DataFrame]:
    """Per-window sums of a measure for the unchanged model (first) and every variant; see live.scoring.window_sums.

    batch_size: variants that go through a layer together, at most. measures: one each, the unchanged model's first; by
    default nll, infinite where a variant's logits are no finite numbers, which the unchanged model's must be.
    """
    measures = measures or [token_nll, *[finite_or_infinite] * len(variants)]
    rows: list[list[pd.DataFrame]] = [[] for _ in range(len(variants) + 1)]
    for number in range(len(windows)):
        window = Windows(windows.ids[number : number + 1], windows.scored[number : number + 1])
        targets = window.ids[window.scored]
        parts: list[list[dict[str, torch.Tensor]]] = [[] for _ in rows]
        with out_of_memory_explained(f"{batch_size} variants of a window of {window.ids.shape[1]} tokens"):
            for variant, part, logits in variant_logits(live, window, variants, route, batch_size=batch_size):
                parts[variant + 1].append(measures[variant + 1](logits, targets[part].to(logits.device)))
        for row, each in zip(rows, parts, strict=True):
            row.append(window_sums(joined(each), window))
    return [pd.concat(each, ignore_index=True).rename_axis("window").reset_index() for each in rows]


@torch.no_grad()
def variant_logits(
    live: Anatomy, window: Windows, variants: Sequence[Variant], route: Shortcuts, *, batch_size: int = 16
) -> Iterator[tuple[int, slice, torch.Tensor]]:
    """Yield (number, part, logits) of one window, first of the unchanged model (-1), then of every variant.

    logits: (m, V), those that predict a part of the window's n scored tokens; the parts of a variant come in their
    order, the variants in any.
    """
    positions = window.scored[0].nonzero()[:, 0] - 1
    restarting = [number for number, variant in enumerate(variants) if route.takes(live, variant)]
    if restarting:
        yield from _restarted(live, window, variants, restarting, route, batch_size, positions)
    plain = [] if restarting else [-1]
    plain += [number for number in range(len(variants)) if number not in set(restarting)]
    for number in plain:
        with edited(live, variants[number] if number >= 0 else ()):
            for _, part, logits in live.head.chunks(live.head.states(window.ids, positions)):
                yield number, part, logits


def _restarted(
    live: Anatomy, window: Windows, variants: Sequence[Variant], numbers: Sequence[int], route: Shortcuts,
    batch_size: int, positions: torch.Tensor,
) -> Iterator[tuple[int, slice, torch.Tensor]]:  # fmt: skip
    places = [variants[number][0].coordinate for number in numbers if route.adds(live, variants[number])]
    entered = {live.projection(place).name: live.projection(place) for place in places}
    way = chain(live, window.ids, entered.values())
    for _, part, logits in live.head.chunks(way.states(way.streams[-1], positions)):
        yield -1, part, logits
    order = sorted(numbers, key=lambda number: (first_layer(variants[number]), number))
    length = window.ids.shape[1]
    batch_size = batch_within(batch_size, live.activation_bytes(length))
    if way.ids.device.type == "cpu":
        batch_size = min(batch_size, max(1, CPU_TOKENS // length))
    for start in range(0, len(order), batch_size):
        members, hidden = climb(way, variants, order[start : start + batch_size])
        # The states of a model that makes all logits at once are these logits.
        size = len(members) if live.head.chunked else max(1, live.head.positions // len(positions))
        for first in range(0, len(members), size):
            states = way.states(hidden[first : first + size], positions)
            for number, part, logits in live.head.chunks(states):
                yield members[first + number], part, logits


def climb(way: LayerTrace, variants: Sequence[Variant], members: Sequence[int]) -> tuple[list[int], torch.Tensor]:
    """Take some variants through the layers together.

    Returns their numbers and what the last layer leaves of each, (len(members), length, d_model). A variant joins at
    the first layer that it edits; while a layer has edits of a variant, the variant passes it alone.
    """
    at = {number: _by_layer(variants[number]) for number in members}
    joined: list[int] = []
    hidden = torch.empty(0)
    for layer in range(min(min(edits) for edits in at.values()), len(way.calls)):
        plain = [place for place, number in enumerate(joined) if layer not in at[number]]
        outputs: dict[int, torch.Tensor] = {}
        if plain:
            together = way.layer(layer, hidden if len(plain) == len(joined) else hidden[plain])
            outputs = {joined[place]: together[i] for i, place in enumerate(plain)}
        for place, number in enumerate(joined):
            if layer in at[number]:
                with edited(way.live, at[number][layer]):
                    outputs[number] = way.layer(layer, hidden[place : place + 1])[0]
        new = [number for number in members if min(at[number]) == layer]
        outputs |= _newcomers(way, layer, {number: at[number][layer] for number in new})
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


def _newcomers(way: LayerTrace, layer: int, edits: dict[int, list[Edit]]) -> dict[int, torch.Tensor]:
    """What the layer leaves of variants that begin with it, (length, d_model) each."""
    outputs: dict[int, torch.Tensor] = {}
    for inside in way.inside.values():
        own = {n: each[0] for n, each in edits.items() if is_single(each) and _lies_in(way, each[0], inside)}
        changed = _added(way, inside, own)
        if changed:
            outputs |= zip(changed, way.after(inside, torch.stack(list(changed.values()))), strict=True)
    for number, each in edits.items():
        if number not in outputs:
            with edited(way.live, each):
                outputs[number] = way.layer(layer, way.streams[layer])[0]
    return outputs


def _lies_in(way: LayerTrace, edit: Edit, inside: LayerTail) -> bool:
    return way.live.projection(edit.coordinate) is inside.projection


def _added(way: LayerTrace, inside: LayerTail, edits: dict[int, Edit]) -> dict[int, torch.Tensor]:
    """Outputs (rows, d_model) of a projection with single weights changed, from its unchanged output.

    Variants whose difference is not small beside what remains are left out: what is left after a large number is taken
    away again has lost its digits.
    """
    outputs: dict[int, torch.Tensor] = {}
    if not edits:
        return outputs
    typical = inside.output.abs().float().median()
    for number, edit in edits.items():
        rows, x, factor = inside.activations(edit.coordinate)
        difference = change_of(way.live, edit) * x * factor
        channel = inside.output[rows, edit.coordinate.row].float() + difference
        if bool((difference.abs() <= torch.maximum(channel.abs(), typical)).all()):
            outputs[number] = inside.output.clone()
            outputs[number][rows, edit.coordinate.row] = channel.to(inside.output.dtype)
    return outputs
