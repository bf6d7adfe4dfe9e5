"""Massive activations of the residual stream: their positions, the layers where they arise, and their persistence.

Sun et al., "Massive Activations in Large Language Models" (arXiv 2402.17762): single channels of single tokens that are
thousands of times the median, appear at one early layer and stay nearly constant. An activation that no later layer
keeps, such as a spike in the last layer, does not count.
"""

from dataclasses import dataclass

import numpy as np
import torch

from weight_atlas.super_weights.recording import Recording

# Channels of a token that are examined in each layer: models have one to three massive ones.
CHANNELS = 8


# A step is a layer that moves the channel by this share of its peak.
STEP = 0.2


@dataclass(frozen=True)
class Massive:
    """One channel of one token that is massive in some layer.

    trace: its value after the embedding (0) and after every layer l (l + 1). ratio:
    its peak over the median |h| of that layer. onset: the first layer after which it has half of its peak; -1 for the
    embedding. steps: layers that move it away from zero by a fifth of its peak or more.
    """

    prompt: int
    position: int
    channel: int
    trace: np.ndarray
    ratio: float
    onset: int
    steps: tuple[int, ...]

    @property
    def peak(self) -> float:
        """The value, with its sign, where its magnitude is largest; the last layer left out, unless it begins there."""
        if self.onset == len(self.trace) - 2:
            return float(self.trace[-1])
        return float(self.trace[np.abs(self.trace[:-1]).argmax()])

    def jump(self, layer: int) -> float:
        """What a layer adds to the channel; -1: the value after the embedding."""
        return float(self.trace[layer + 1] - (self.trace[layer] if layer >= 0 else 0.0))

    def persistence(self, layer: int) -> float:
        """See persistence_after."""
        return persistence_after(self.trace, layer)


def persistence_after(trace: np.ndarray, layer: int) -> float:
    """Share of the layers after one in which a channel has at least half of its value there; 0 after the last.

    trace: the channel after the embedding (0) and after every layer l (l + 1).
    """
    after = np.abs(trace[layer + 2 :])
    return float((after >= 0.5 * abs(trace[layer + 1])).mean()) if len(after) else 0.0


def massive_activations(recording: Recording, *, ratio: float) -> list[Massive]:
    """Find the massive activations of a recording, in order of prompt, position and channel.

    ratio: least |h| over the layer's median |h|. What only the last layer makes large does not count: only the final
    norm reads it (see last_layer_activations).
    """
    medians = residual_medians(recording)
    large = [_large(recording, layer, medians, ratio) for layer in range(len(recording.residual) - 1)]
    unique, traces = _traced(recording, torch.cat(large))
    return [
        _described(prompt, position, channel, trace, medians[prompt])
        for (prompt, position, channel), trace in zip(unique.tolist(), traces, strict=True)
    ]


def last_layer_activations(recording: Recording, *, ratio: float) -> list[Massive]:
    """Activations that only the last layer makes massive, in order of prompt, position and channel.

    No later layer can keep them, so that they cannot be distinguished from an effect of the readout.
    """
    medians, last = residual_medians(recording), len(recording.residual) - 2
    unique, traces = _traced(recording, _large(recording, last + 1, medians, ratio))
    found = []
    for (prompt, position, channel), trace in zip(unique.tolist(), traces, strict=True):
        sizes = np.abs(trace) / np.maximum(medians[prompt], np.finfo(float).tiny)
        if sizes[:-1].max() < ratio:
            found.append(Massive(prompt, position, channel, trace, float(sizes[-1]), last, (last,)))
    return found


def _large(recording: Recording, layer: int, medians: np.ndarray, ratio: float) -> torch.Tensor:
    """(prompt, position, channel) of the largest channels of each token that reach a ratio in one layer: (n, 3)."""
    h = recording.residual[layer]
    top = h.abs().topk(min(CHANNELS, h.shape[-1]), dim=-1)
    least = ratio * torch.from_numpy(medians[:, layer])[:, None, None]
    large = (top.values.double().cpu() >= least) & recording.prompts.valid[..., None]
    prompt, position, slot = large.nonzero(as_tuple=True)
    return torch.stack([prompt, position, top.indices.cpu()[prompt, position, slot]], dim=1)


def _traced(recording: Recording, indices: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """Distinct (prompt, position, channel) in order, and their values after the embedding and every layer."""
    unique = torch.unique(indices, dim=0)
    traces = [h[tuple(unique.T.to(h.device))].double().cpu() for h in recording.residual]
    return unique, torch.stack(traces, dim=1).numpy()


def residual_medians(recording: Recording) -> np.ndarray:
    """Median |h| over tokens and channels after the embedding and after every layer: (prompts, layers + 1).

    Prompts with and without the tokenizer's prefix have a median each: without it a model may behave quite differently.
    """
    prompts = recording.prompts
    medians = np.zeros((len(prompts.prefixed), len(recording.residual)))
    for prefixed in sorted(set(prompts.prefixed)):
        rows = [row for row, each in enumerate(prompts.prefixed) if each == prefixed]
        valid = prompts.valid[rows]
        for layer, h in enumerate(recording.residual):
            medians[rows, layer] = float(h[rows][valid.to(h.device)].abs().float().median())
    return medians


def _described(prompt: int, position: int, channel: int, trace: np.ndarray, medians: np.ndarray) -> Massive:
    size = np.abs(trace)
    top = int(size[:-1].argmax())
    outward = np.diff(trace) * np.sign(trace[1:])
    return Massive(
        prompt,
        position,
        channel,
        trace,
        ratio=float(size[top] / medians[top]) if medians[top] > 0 else float("inf"),
        onset=int((size >= 0.5 * size[top]).argmax()) - 1,
        steps=tuple(np.flatnonzero(outward >= STEP * size[top]).tolist()),
    )
