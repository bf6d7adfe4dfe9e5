"""Send every token to one chosen expert, for as long as a block lasts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Projection
from weight_atlas.live.experts import routing_of


@contextmanager
def forced_routing(projection: Projection, expert: int) -> Iterator[None]:
    """Let every token of a layer pass one expert: where the router chose others, it takes the place of the last choice.

    It gets that choice's routing weight, so that the sum of weights stays what it was.
    """
    if not projection.stacked:
        raise AtlasError(f"{projection.name} has no router", remedy="force an expert of a mixture of experts")

    def force(module, inputs, keywords):
        routing = routing_of(projection, inputs, keywords)
        missing = ~(routing.index == expert).any(1)
        if routing.scaled:
            hidden = inputs[0].view(projection.n_experts, -1, inputs[0].shape[-1]).clone()
            chosen = (routing.index < projection.n_experts).sum(1)
            token = (missing & (chosen > 0)).nonzero()[:, 0]
            last = routing.index[token, chosen[token] - 1]
            hidden[expert, token] = hidden[last, token]
            hidden[last, token] = 0
            return (hidden.view_as(inputs[0]), *inputs[1:]), keywords
        index = routing.index.clone()
        index[missing, -1] = expert

        def exchanged(value):
            integer = isinstance(value, torch.Tensor) and not value.is_floating_point()
            return index.view_as(value).to(value.dtype) if integer else value

        return tuple(map(exchanged, inputs)), {name: exchanged(value) for name, value in keywords.items()}

    handle = projection.container.register_forward_pre_hook(force, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
