"""Run a model from one of its layers on: what an edit of a late layer changes costs only the layers after it.

A model is a chain of layers on the residual stream. One pass over a window keeps what every layer was called with;
each variant of the weights then starts at the first layer that it edits, from the cached stream, and variants that
have passed their edited layers go on together as one batch. Whether a model is such a chain is not assumed:
live.shortcuts compares it with the plain forward pass.
"""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from weight_atlas.live.anatomy import Anatomy, Projection
from weight_atlas.live.layer_tail import LayerTail, kept_inside
from weight_atlas.live.scoring import input_device


@dataclass(frozen=True)
class Call:
    """What a layer was called with beside the hidden states, and whether it returns them alone or in a tuple."""

    positional: tuple
    keywords: dict
    in_tuple: bool
    by_keyword: bool


@dataclass(frozen=True)
class LayerTrace:
    """A window's way through a model.

    ids: (1, length). streams: input of every layer and output of the last, (1, length, d_model) each. inside: what was
    kept within layers, by names of projections.
    """

    live: Anatomy
    ids: torch.Tensor
    calls: list[Call]
    streams: list[torch.Tensor]
    inside: dict[str, LayerTail]

    def layer(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        """Run one layer on hidden states (n, length, d_model)."""
        call, hidden = self.calls[number], hidden.to(self.streams[number].device)
        keywords = {**call.keywords, "hidden_states": hidden} if call.by_keyword else call.keywords
        first = () if call.by_keyword else (hidden,)
        output = self.live.layers[number](*first, *call.positional, **keywords)
        return output[0] if call.in_tuple else output

    def after(self, inside: LayerTail, outputs: torch.Tensor) -> torch.Tensor:
        """What a layer leaves (n, length, d_model) if its projection puts out `outputs` (n, rows, d_model)."""
        number = inside.projection.layer
        with inside.entered(outputs):
            return self.layer(number, self.streams[number].repeat(len(outputs), 1, 1))

    def logits(self, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """The model's logits (n, len(positions), V) for what its last layer left, (n, length, d_model).

        Final norm, head and whatever the family does after it are the model's own: its layers are passed over.
        """
        with _passed_over(self.live, self.calls, hidden):
            return logits_at(self.live, self.ids.expand(len(hidden), -1), positions)


@torch.no_grad()
def logits_at(live: Anatomy, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The model's logits (n, len(positions), V) at some positions of ids (n, length); the head sees no others."""
    ids = ids.to(input_device(live.model))
    if "logits_to_keep" in inspect.signature(live.model.forward).parameters:
        return live.model(input_ids=ids, use_cache=False, logits_to_keep=positions.to(ids.device)).logits
    logits = live.model(input_ids=ids, use_cache=False).logits
    return logits[:, positions.to(logits.device)]


@torch.no_grad()
def chain(live: Anatomy, ids: torch.Tensor, enter: Iterable[Projection] = ()) -> LayerTrace:
    """Run the model once over one window, ids (1, length), and keep what its layers were called with.

    enter: projections whose layers shall be run again from there on (see LayerTrace.after).
    """
    calls: list[Call] = []
    streams: list[torch.Tensor] = []

    def note(module, inputs, keywords, output):
        by_keyword = not inputs
        streams.append(keywords["hidden_states"] if by_keyword else inputs[0])
        kept = {name: value for name, value in keywords.items() if name != "hidden_states"}
        calls.append(Call(inputs[1:], kept, isinstance(output, tuple), by_keyword))
        if len(calls) == len(live.layers):
            streams.append(output[0] if isinstance(output, tuple) else output)

    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in live.layers]
    try:
        with kept_inside(live, enter) as inside:
            # What the head makes of it is not asked for here.
            logits_at(live, ids, torch.tensor([0]))
    finally:
        for hook in hooks:
            hook.remove()
    return LayerTrace(live, ids.to(input_device(live.model)), calls, streams, inside)


@contextmanager
def _passed_over(live: Anatomy, calls: Sequence[Call], hidden: torch.Tensor) -> Iterator[None]:
    """Let the model's layers hand on what they get, and the last of them `hidden`."""
    own = [layer.__dict__.get("forward") for layer in live.layers]

    def stub(number: int):
        def forward(*inputs, **keywords):
            given = inputs[0] if inputs else keywords["hidden_states"]
            output = hidden if number == len(live.layers) - 1 else given
            return (output,) if calls[number].in_tuple else output

        return forward

    try:
        for number, layer in enumerate(live.layers):
            layer.forward = stub(number)
        yield
    finally:
        for layer, forward in zip(live.layers, own, strict=True):
            # accelerate puts a forward of its own on the instance; else the class's shows again.
            if forward is None:
                del layer.__dict__["forward"]
            else:
                layer.forward = forward
