"""Score many variants of a model's weights on the same windows, sharing what they have in common.

Each variant is a set of edits. Where its shortcuts allow (live.shortcuts), it starts at the first layer that it edits,
and variants past their edited layers run as one batch. An edit of a single weight adds (w' - w) x[col] to channel `row`
of its projection's output: only the tail of the layer is then run again (live.layer_tail), for all such variants
together. Every other variant takes a whole forward pass of its own, with the same result.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.edits import Edit, change_of, edited
from weight_atlas.live.layer_restart import LayerTrace, chain
from weight_atlas.live.layer_tail import LayerTail
from weight_atlas.live.memory import batch_within, out_of_memory_explained
from weight_atlas.live.scoring import Measure, finite_or_infinite, joined, numbered, token_nll, window_sums
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
    batch_size: int,
    measures: Sequence[Measure] | None = None,
) -> list[pd.DataFrame]:
    """Per-window sums of a measure for the unchanged model (first) and every variant; see live.scoring.window_sums.

    batch_size: variants that go through a layer together, at most. measures: one each, the unchanged model's first; by
    default nll, infinite where a variant's logits are no finite numbers, which the unchanged model's must be.
    """
    measures = measures or [token_nll, *[finite_or_infinite] * len(variants)]
    sums: list[list[dict[str, np.ndarray]]] = [[] for _ in range(len(variants) + 1)]
    for number in range(len(windows)):
        window = windows.part(number, number + 1)
        targets = window.ids[window.scored]
        parts: list[list[dict[str, torch.Tensor]]] = [[] for _ in sums]
        with out_of_memory_explained(f"{batch_size} variants of a window of {window.ids.shape[1]} tokens"):
            for variant, part, logits in variant_logits(live, window, variants, route, batch_size=batch_size):
                parts[variant + 1].append(measures[variant + 1](logits, targets[part].to(logits.device)))
        for own, each in zip(sums, parts, strict=True):
            own.append(window_sums(joined(each), window))
    return [numbered(each, windows) for each in sums]


@torch.no_grad()
def variant_logits(
    live: Anatomy, window: Windows, variants: Sequence[Variant], route: Shortcuts, *, batch_size: int
) -> Iterator[tuple[int, slice, torch.Tensor]]:
    """Yield (number, part, logits) of one window, first of the unchanged model (-1), then of every variant.

    logits: (m, V), those that predict a part of the window's n scored tokens; the parts of a variant come in their
    order, the variants in any order.
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
    coordinates = [variants[number][0].coordinate for number in numbers if route.adds(live, variants[number])]
    entered = {projection.name: projection for projection in map(live.projection, coordinates)}
    trace = chain(live, window.ids, entered.values())
    for _, part, logits in live.head.chunks(trace.states(trace.streams[-1], positions)):
        yield -1, part, logits
    order = sorted(numbers, key=lambda number: (first_layer(variants[number]), number))
    length = window.ids.shape[1]
    batch_size = batch_within(batch_size, live.activation_bytes(length))
    if trace.ids.device.type == "cpu":
        batch_size = min(batch_size, max(1, CPU_TOKENS // length))
    for start in range(0, len(order), batch_size):
        members, hidden = climb(trace, variants, order[start : start + batch_size])
        # The states of a model that makes all logits at once are these logits.
        size = len(members) if live.head.chunked else max(1, live.head.positions // max(1, len(positions)))
        for first in range(0, len(members), size):
            states = trace.states(hidden[first : first + size], positions)
            for number, part, logits in live.head.chunks(states):
                yield members[first + number], part, logits


def climb(trace: LayerTrace, variants: Sequence[Variant], members: Sequence[int]) -> tuple[list[int], torch.Tensor]:
    """Run some variants through the layers together.

    Returns their numbers and the output of the last layer for each, (len(members), length, d_model). A variant joins at
    the first layer that it edits; a layer that it edits is run for it alone.
    """
    edits = {number: _by_layer(variants[number]) for number in members}
    joined: list[int] = []
    hidden = trace.streams[0][:0]
    for layer in range(min(min(by_layer) for by_layer in edits.values()), len(trace.calls)):
        unedited = [index for index, number in enumerate(joined) if layer not in edits[number]]
        together = hidden if len(unedited) == len(joined) else hidden[unedited]
        if unedited:
            together = trace.layer(layer, together)
        outputs = {joined[index]: output for index, output in zip(unedited, together, strict=True)}
        for index, number in enumerate(joined):
            if layer in edits[number]:
                with edited(trace.live, edits[number][layer]):
                    outputs[number] = trace.layer(layer, hidden[index : index + 1])[0]
        new = [number for number in members if min(edits[number]) == layer]
        outputs |= _newcomers(trace, layer, {number: edits[number][layer] for number in new})
        joined = joined + new
        if joined:
            whole = len(unedited) == len(joined)
            hidden = together if whole else torch.stack([outputs[number] for number in joined])
    return joined, hidden


def _by_layer(variant: Variant) -> dict[int, list[Edit]]:
    layers: dict[int, list[Edit]] = {}
    for edit in variant:
        layers.setdefault(edit.coordinate.layer, []).append(edit)
    return layers


def _newcomers(trace: LayerTrace, layer: int, edits: dict[int, list[Edit]]) -> dict[int, torch.Tensor]:
    """The layer's output for variants that begin with it, (length, d_model) each."""
    outputs: dict[int, torch.Tensor] = {}
    for tail in trace.inside.values():
        singles = {
            number: variant[0]
            for number, variant in edits.items()
            if is_single(variant) and _lies_in(trace, variant[0], tail)
        }
        changed = _added(trace, tail, singles)
        if changed:
            outputs |= zip(changed, trace.after(tail, torch.stack(list(changed.values()))), strict=True)
    for number, variant in edits.items():
        if number not in outputs:
            with edited(trace.live, variant):
                outputs[number] = trace.layer(layer, trace.streams[layer])[0]
    return outputs


def _lies_in(trace: LayerTrace, edit: Edit, tail: LayerTail) -> bool:
    return trace.live.projection(edit.coordinate) is tail.projection


def _added(trace: LayerTrace, tail: LayerTail, edits: dict[int, Edit]) -> dict[int, torch.Tensor]:
    """Outputs (rows, d_model) of a projection with single weights changed, from its unchanged output.

    Leaves out variants whose difference exceeds the result, since digits cancel where a large number is subtracted.
    """
    if not edits:
        return {}
    typical = tail.output.abs().float().median()
    outputs: dict[int, torch.Tensor] = {}
    for number, edit in edits.items():
        rows, x, factor = tail.activations(edit.coordinate)
        difference = change_of(trace.live, edit) * x * factor
        channel = tail.output[rows, edit.coordinate.row].float() + difference
        if bool((difference.abs() <= torch.maximum(channel.abs(), typical)).all()):
            outputs[number] = tail.output.clone()
            outputs[number][rows, edit.coordinate.row] = channel.to(tail.output.dtype)
    return outputs
