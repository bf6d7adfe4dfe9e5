"""A pass over windows of text that keeps each expert's tokens, largest activations and strongest weight."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from weight_atlas.errors import finite
from weight_atlas.live.anatomy import Anatomy, Coordinate, Projection
from weight_atlas.live.experts import ExpertActivation, expert_activations, routing_of
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.residual_stream import residual_output
from weight_atlas.live.windows import Windows
from weight_atlas.super_weights.expert_modules import blocks_of, hook_block
from weight_atlas.super_weights.massive_activations import persistence_after


@dataclass(frozen=True)
class Peak:
    """The weight of an expert with the largest contribution, relative to the residual stream.

    contribution: r x w to one token. ratio: to that token's median |h| before the layer. persistence: of the channel in
    the layers after it (see massive_activations.Massive).
    """

    ratio: float
    contribution: float
    row: int
    col: int
    input_value: float
    window: int
    token: int
    persistence: float = 0.0


@dataclass
class Seen:
    """Sums and maxima of one expert so far: tokens routed to it, their positions, sum of routing weights."""

    tokens: int = 0
    weight: float = 0.0
    positions: list[torch.Tensor] = field(default_factory=list)
    max_input: float = 0.0
    max_output: float = 0.0
    peak: Peak | None = None


@dataclass(frozen=True)
class Calibration:
    """A pass over the windows. seen: by name of the projection and expert. total: number of tokens of the windows.

    peaks (layers + 1, d_model), medians (layers + 1,): of |h| after the embedding (0) and after every layer l (l + 1).
    """

    seen: dict[tuple[str, int], Seen]
    peaks: np.ndarray
    medians: np.ndarray
    total: int

    def forming(self, ratio: float) -> set[int]:
        """Layers where massive activations form: they raise some channel's peak by a fifth of the largest or more.

        What only the last layer makes large is not massive: it counts neither as forming nor for the largest.
        """
        peaks, medians = self.peaks[:-1], self.medians[:-1]
        rise = np.diff(peaks, axis=0) >= 0.2 * peaks.max()
        large = peaks[1:] >= ratio * medians[1:, None]
        return set(np.flatnonzero((rise & large).any(axis=1)).tolist())


Observe = Callable[[Projection, ExpertActivation], None]


def experts_of(live: Anatomy) -> list[tuple[Projection, int]]:
    """Every routed expert of a model, stacked or a separate module, in order of layers."""
    return [(projection, expert) for projection in live.projections for expert in projection.experts]


def calibrate(live: Anatomy, windows: Windows) -> Calibration:
    """Run the model once over every window. Raises AtlasError where an activation is not a finite number."""
    seen: dict[tuple[str, int], Seen] = {}
    strongest: dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = {}
    peaks = np.zeros((len(live.layers) + 1, live.d_model))
    medians_of_windows: list[list[float]] = []
    for number in range(len(windows)):
        streams: list[torch.Tensor] = []
        medians: dict[int, torch.Tensor] = {}

        def look(
            projection: Projection, one: ExpertActivation, number=number, streams=streams, medians=medians
        ) -> None:
            key = (projection.name, one.expert)
            if key not in strongest:
                strongest[key] = projection.matrix(one.expert if projection.stacked else None).abs().max(0)
            if projection.layer not in medians:
                medians[projection.layer] = streams[-1].abs().float().median(dim=1).values
            add(seen.setdefault(key, Seen()), projection, one, medians[projection.layer], strongest[key], number)

        with _streams(live, streams), each_expert(live, look):
            run_window(live, windows, number)
        for place, h in enumerate(streams):
            finite(float(h.abs().max()), _after(live, place))
            peaks[place] = np.maximum(peaks[place], h.abs().amax(0).double().cpu().numpy())
        medians_of_windows.append([float(h.abs().float().median()) for h in streams])
        _trace_peaks(live, seen, streams, number)
    return Calibration(seen, peaks, np.median(medians_of_windows, axis=0), windows.ids.numel())


def add(
    seen: Seen,
    projection: Projection,
    one: ExpertActivation,
    medians: torch.Tensor,
    strongest: tuple[torch.Tensor, torch.Tensor],
    window: int,
) -> None:
    """Add the activations of an expert on the tokens of one window.

    medians: of |h| of every token of the window before the layer. strongest: largest |W| of each column of the expert's
    matrix, and its row. The largest |x_k W[r, k]| over r is |x_k| times the column's largest |W|: so the largest
    contribution over all tokens, rows and neurons is exact without their products, and biases do not enter.
    """
    where = f"{projection.name}, expert {one.expert}"
    seen.tokens += len(one.token)
    seen.weight += float(one.weight.sum())
    seen.positions.append(one.token.cpu())
    seen.max_input = max(seen.max_input, finite(float(one.x.abs().max()), where))
    seen.max_output = max(seen.max_output, finite(float(one.y.abs().max()), where))
    size, row = strongest
    usual = medians.to(one.x.device)[one.token].clamp(min=1e-30)
    relative = one.x.abs() * size.float() * (one.weight.abs() / usual)[:, None]
    place = int(relative.argmax())
    at, col = divmod(place, one.x.shape[1])
    ratio = float(relative[at, col])
    if seen.peak is None or ratio > seen.peak.ratio:
        x, matrix = float(one.x[at, col]), projection.matrix(one.expert if projection.stacked else None)
        contribution = x * float(matrix[row[col], col]) * float(one.weight[at])
        seen.peak = Peak(ratio, contribution, int(row[col]), col, x, window, int(one.token[at]))


def _trace_peaks(live: Anatomy, seen: dict, streams: list[torch.Tensor], window: int) -> None:
    """Fill in the persistence of the peaks that this window set."""
    for projection, expert in experts_of(live):
        sums = seen.get((projection.name, expert))
        if sums is not None and sums.peak is not None and sums.peak.window == window:
            trace = np.array([float(h[sums.peak.token, sums.peak.row]) for h in streams])
            sums.peak = replace(sums.peak, persistence=persistence_after(trace, projection.layer))


@contextmanager
def each_expert(live: Anatomy, observe: Observe) -> Iterator[None]:
    """Inside the block, call observe for every expert that gets tokens in a pass of the model."""

    def at_container(projection: Projection):
        def keep(module, inputs, keywords):
            for one in expert_activations(projection, routing_of(projection, inputs, keywords)):
                observe(projection, one)

        return keep

    def at_block(activations: list[tuple[Projection, ExpertActivation]]) -> None:
        for projection, one in activations:
            observe(projection, one)

    with ExitStack() as hooks:
        for projection in live.projections:
            if projection.stacked:
                handle = projection.container.register_forward_pre_hook(at_container(projection), with_kwargs=True)
                hooks.callback(handle.remove)
        for block in blocks_of(live):
            for handle in hook_block(live, block, at_block):
                hooks.callback(handle.remove)
        yield


@contextmanager
def _streams(live: Anatomy, streams: list[torch.Tensor]) -> Iterator[None]:
    """Append the residual stream (length, d_model) before the first and after every layer to a list."""

    def before(module, inputs, keywords):
        streams.append(residual_output(inputs[0] if inputs else keywords["hidden_states"]).detach()[0])

    def after(module, inputs, output):
        streams.append(residual_output(output).detach()[0])

    with ExitStack() as hooks:
        hooks.callback(live.layers[0].register_forward_pre_hook(before, with_kwargs=True).remove)
        for layer in live.layers:
            hooks.callback(layer.register_forward_hook(after).remove)
        yield


def run_window(live: Anatomy, windows: Windows, number: int) -> None:
    """Run the model on one window, for its hooks."""
    ids = windows.ids[number : number + 1]
    with torch.no_grad(), out_of_memory_explained(f"experts of a window of {ids.shape[1]} tokens"):
        live.head.run(ids)


def co_spike_sums(live: Anatomy, windows: Windows, calibration: Calibration) -> dict[Coordinate, tuple]:
    """(sum |x y|, sum x^2, sum y^2) of every expert's strongest weight, from a second pass over the windows.

    The first pass finds that weight.
    """
    sums: dict[Coordinate, np.ndarray] = {}

    def look(projection: Projection, one: ExpertActivation) -> None:
        peak = calibration.seen[projection.name, one.expert].peak
        if peak is None:
            return
        x, y = one.x[:, peak.col].double(), one.y[:, peak.row].double()
        place = projection.coordinate(peak.row, peak.col, one.expert)
        added = np.array([float((x * y).abs().sum()), float((x * x).sum()), float((y * y).sum())])
        sums[place] = sums.get(place, 0) + added

    with each_expert(live, look):
        for number in range(len(windows)):
            run_window(live, windows, number)
    return {place: tuple(each.tolist()) for place, each in sums.items()}


def _after(live: Anatomy, place: int) -> str:
    return f"{live.layers_path}.{place - 1}" if place else "the embedding"
