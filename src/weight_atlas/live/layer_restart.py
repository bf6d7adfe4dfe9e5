"""Restart a model at one of its layers, so that an edit of a late layer costs only the layers after it.

One pass over a window caches the arguments of every layer; each variant of the weights then starts at the first layer
that it edits, from the cached residual stream. Whether the layers of a model depend on each other through the residual
stream alone is not assumed: live.shortcuts compares restarts with the plain forward pass.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from weight_atlas.live.anatomy import Anatomy, Projection
from weight_atlas.live.language_model import input_device, layers_skipped
from weight_atlas.live.layer_tail import LayerTail, kept_inside


@dataclass(frozen=True)
class Call:
    """The arguments of a layer other than the hidden states, and whether it returns these in a tuple."""

    positional: tuple
    keywords: dict
    in_tuple: bool
    by_keyword: bool


@dataclass(frozen=True)
class LayerTrace:
    """One pass of a model over a window.

    ids: (1, length). streams: input of every layer and output of the last, (1, length, d_model) each. inside: cached
    passes within layers, by names of projections.
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
        """The output of a layer, (n, length, d_model), with `outputs` (n, rows, d_model) as its projection's."""
        number = inside.projection.layer
        with inside.entered(outputs):
            return self.layer(number, self.streams[number].repeat(len(outputs), 1, 1))

    def states(self, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """The input of the model's head (see Head.states) for outputs of the last layer, (n, length, d_model).

        The final norm and whatever the family does around it are the model's own: its layers are skipped.
        """
        in_tuple = [call.in_tuple for call in self.calls]
        with layers_skipped(self.live.layers, in_tuple, hidden):
            return self.live.head.states(self.ids.expand(len(hidden), -1), positions)

    def logits(self, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """The model's logits (n, len(positions), V) for outputs of its last layer, all at once."""
        states = self.states(hidden, positions)
        return self.live.head.logits(states.flatten(0, 1)).unflatten(0, states.shape[:2])


@torch.no_grad()
def chain(live: Anatomy, ids: torch.Tensor, enter: Iterable[Projection] = ()) -> LayerTrace:
    """Run the model once over one window, ids (1, length), and cache the arguments of its layers.

    enter: projections whose layers can then be run again from their outputs on (see LayerTrace.after).
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
