"""Remove super weights but keep the massive activations that they make."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.contributions import input_replaced, inputs_observed

# A token is a sink of a super weight where |x|, and so |w * x|, is over this share of its largest on the prompt.
SINK_SHARE = 0.5
# Of a prompt that holds a sink, the largest |x| over the median |x|, at least.
STANDS_OUT = 10.0


@dataclass(frozen=True)
class Sink:
    """A weight whose massive activation is restored, and the input that made it where the weight was detected."""

    place: Coordinate
    input: float | None = None


@contextmanager
def super_activations_restored(live: Anatomy, sinks: Sequence[Sink], prompt: torch.Tensor) -> Iterator[None]:
    """Zero weights w while the block lasts, but add w * x back to the output of every token that is a sink.

    The model loses only the weights' contributions to all other tokens. prompt: token ids (1, length) that set
    off the massive activations (see sink_prompt); sinks of any text are where |w * x| exceeds half of its maximum
    there, or half of what was detected where the prompt falls short of it. The log says how many of the prompt's
    tokens are sinks. Source: Yu et al., arXiv 2411.07191, table 1.
    """
    inputs = _inputs(live, [sink.place for sink in sinks], prompt)
    with ExitStack() as stack:
        for sink in sinks:
            bound = _bound(sink, inputs.get(sink.place, torch.empty(0)), prompt.shape[1])
            stack.enter_context(input_replaced(live, sink.place, _of_sinks(bound)))
        yield


def _of_sinks(bound: float):
    return lambda x: torch.where(x.abs() > bound, x, 0)


def _bound(sink: Sink, x: torch.Tensor, length: int) -> float:
    """The |x| above which a token is a sink, from the |x| of the prompt's tokens that reach the neuron; logged."""
    largest = float(x.max()) if len(x) else float("inf")
    bound = SINK_SHARE * largest
    if sink.input is not None and not SINK_SHARE * abs(sink.input) < largest < float("inf"):
        bound = SINK_SHARE * abs(sink.input)
    count = int((x > bound).sum())
    print(f"restore {sink.place}: {count} of {length} tokens of the prompt are sinks, |x| over {bound:.4g}", flush=True)
    if not count or (sink.input is None and largest < STANDS_OUT * float(x.median())):
        print(f"warning: no token of the prompt sets off {sink.place}; is a BOS token missing?", flush=True)
    return bound


@torch.no_grad()
def _inputs(live: Anatomy, places: Sequence[Coordinate], prompt: torch.Tensor) -> dict[Coordinate, torch.Tensor]:
    """|x[col]| of the prompt's tokens that reach each coordinate's neuron, float32 (n,)."""
    seen: dict[Coordinate, torch.Tensor] = {}

    def note(place: Coordinate, x: torch.Tensor) -> None:
        seen[place] = x.abs().cpu()

    with inputs_observed(live, places, note):
        live.head.run(prompt)
    return seen
