"""The largest activations of every channel after every stage of a model: embedding, layers, final norm.

A channel of the residual stream is massive where some token's |h| is many times the median |h| of its window after the
same stage: after the embedding, after any layer, the last one too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.residual_stream import residual_stages
from weight_atlas.live.windows import Windows
from weight_atlas.super_weights.super_activations import outstanding


@dataclass(frozen=True)
class Peaks:
    """Of every channel after every stage, over windows, the token at which |h| is largest beside its median.

    value (with its sign), ratio (|value| / median |h| of the window), window, position: (stages, d_model). layers:
    number of layers, whose stages are 1 to layers; 0 is the embedding, and one more the final norm, if there is one.
    """

    value: np.ndarray
    ratio: np.ndarray
    window: np.ndarray
    position: np.ndarray
    layers: int

    @property
    def stream(self) -> np.ndarray:
        """The ratios in the residual stream alone, (layers + 1, d_model): without the final norm."""
        return self.ratio[: self.layers + 1]


@dataclass(frozen=True)
class MassiveChannel:
    """A massive channel at the token where it is largest: stage, window and position, ratio and value there."""

    channel: int
    stage: int
    window: int
    position: int
    ratio: float
    value: float


def stage_peaks(live: Anatomy, windows: Windows) -> Peaks:
    """Run the model once over every window. Keeps the stream of one window at a time."""
    found: Peaks | None = None
    for number in range(len(windows)):
        stages = residual_stages(live, windows.ids[number : number + 1])
        each = [_of_stage(stage.float()) for stage in stages]
        size, value, position = (np.stack(part) for part in zip(*each, strict=True))
        own = Peaks(value, size, np.full_like(position, number), position, len(live.layers))
        found = own if found is None else _larger(found, own)
    assert found is not None, "windows are never none"
    return found


def massive_channels(peaks: Peaks, *, ratio: float) -> list[MassiveChannel]:
    """Channels that reach a ratio in the residual stream, the largest first.

    Described where they are largest before the last layer, as long as they reach the ratio there: the last layer's echo
    is read by the final norm only.
    """
    found = []
    for channel in np.flatnonzero((peaks.stream >= ratio).any(0)).tolist():
        inside = peaks.stream[:-1, channel]
        stage = int(inside.argmax()) if inside.max() >= ratio else peaks.layers
        at = (stage, channel)
        size, value = float(peaks.ratio[at]), float(peaks.value[at])
        found.append(MassiveChannel(channel, stage, int(peaks.window[at]), int(peaks.position[at]), size, value))
    return sorted(found, key=lambda each: (-each.ratio, each.channel))


def massive_tokens(
    live: Anatomy, windows: Windows, channels: Sequence[MassiveChannel], *, ratio: float
) -> torch.Tensor:
    """Which tokens have a massive activation in some channels: bool (windows, channels, length).

    It is looked for after the channel's stage; see super_activations.outstanding. Runs the model once over each window.
    """
    values, medians = [], []
    for number in range(len(windows)):
        stages = residual_stages(live, windows.ids[number : number + 1])
        values.append(torch.stack([stages[each.stage][:, each.channel].float().cpu() for each in channels]))
        medians.append(torch.stack([stages[each.stage].float().abs().median().cpu() for each in channels]))
    return outstanding(torch.stack(values), torch.stack(medians), ratio)


def _of_stage(h: torch.Tensor) -> tuple[np.ndarray, ...]:
    """(ratio, value, position) of every channel, (d_model,) each, from a stream (length, d_model)."""
    size = h.abs()
    median = size.median()
    largest, position = size.max(0)
    value = h.gather(0, position[None])[0]
    # Beside a median of zero, as of a text of padding whose embedding is zero, nothing can be called massive.
    ratio = (largest.double() / median.double()).nan_to_num(0.0, posinf=0.0).cpu().numpy()
    return ratio, value.double().cpu().numpy(), position.cpu().numpy()


def _larger(known: Peaks, own: Peaks) -> Peaks:
    better = own.ratio > known.ratio
    largest = {
        name: np.where(better, getattr(own, name), getattr(known, name))
        for name in ("value", "ratio", "window", "position")
    }
    return Peaks(**largest, layers=known.layers)
