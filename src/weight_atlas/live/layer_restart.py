"""Run a model from one of its layers on: what an edit of a late layer changes costs only the layers after it.

A model is a chain of layers on the residual stream. One pass over a window keeps what every layer was called with;
each variant of the weights then starts at the first layer that it edits, from the cached stream, and variants that
have passed their edited layers go on together as one batch. Whether a model is such a chain is not assumed:
live.shortcuts compares it with the plain forward pass.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from weight_atlas.live.anatomy import Anatomy, Projection
from weight_atlas.live.language_model import input_device
from weight_atlas.live.layer_tail import LayerTail, kept_inside
from weight_atlas.live.stand_ins import layers_skipped


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

    def states(self, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """What the model's head is given (see Head.states) for what the last layer leaves, (n, length, d_model).

        The final norm and whatever the family does around it are the model's own: its layers are skipped.
        """
        in_tuple = [call.in_tuple for call in self.calls]
        with layers_skipped(self.live.layers, in_tuple, hidden):
            return self.live.head.states(self.ids.expand(len(hidden), -1), positions)

    def logits(self, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """The model's logits (n, len(positions), V) for what its last layer left, all at once."""
        states = self.states(hidden, positions)
        return self.live.head.logits(states.flatten(0, 1)).unflatten(0, states.shape[:2])


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
            live.head.run(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return LayerTrace(live, ids.to(input_device(live.model)), calls, streams, inside)
