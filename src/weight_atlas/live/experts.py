"""Stacked experts: which tokens the router sends to which, each expert's activations, and routing forced to one.

Experts run as fused kernels inside one container, so that no hook on an expert can fire. The container's arguments
are what the router decided; from them an expert's activations are computed again, in float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import Projection


@dataclass(frozen=True)
class Routing:
    """What a container of experts was given for n tokens.

    hidden: (n, d_model), scaled: (n, k, d_model). index: (n, k) experts of each token; the number of experts where a
    slot has none. weight: (n, k) factors on the experts' outputs. scaled: the factor was already applied to the
    experts' input (Llama 4), and scales what they put out through it.
    """

    hidden: torch.Tensor
    index: torch.Tensor
    weight: torch.Tensor
    scaled: bool = False


@dataclass(frozen=True)
class ExpertActivation:
    """Input and output of one expert's output projection, float32, for the tokens routed to it.

    token: (n,) which tokens; x: (n, cols); y: (n, rows) before the routing weight; weight: (n,) the factor on y.
    """

    expert: int
    token: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor


def routing_of(projection: Projection, inputs: tuple, keywords: dict) -> Routing:
    """Read a container's arguments, as its forward was called with them."""
    given = [value for value in (*inputs, *keywords.values()) if isinstance(value, torch.Tensor)]
    hidden = given[0]
    integers = [value for value in given[1:] if not value.is_floating_point()]
    weights = [value for value in given[1:] if value.is_floating_point()]
    if integers and weights:
        index, weight = integers[0], weights[0]
        return Routing(
            hidden.reshape(-1, hidden.shape[-1]), index.reshape(-1, index.shape[-1]), weight.reshape(index.shape)
        )
    experts = len(projection.parts)
    if len(given) == 1 and hidden.ndim == 2 and len(hidden) % experts == 0:
        return _routing_by_scaled_inputs(hidden.view(experts, -1, hidden.shape[-1]))
    raise NotApplicable(
        f"the experts of {type(projection.container).__name__} are called in an unknown way",
        where=projection.name,
        remedy="this architecture's experts cannot be analysed; its dense projections can",
    )


def _routing_by_scaled_inputs(scaled: torch.Tensor) -> Routing:
    """Llama 4 gives every expert every token, times its score, which is zero where the token is not its.

    A token whose score underflowed to zero cannot be told from one that is not the expert's; it adds nothing either.
    """
    routed = (scaled != 0).any(-1).T
    k = max(int(routed.sum(1).max()), 1)
    index = routed.to(torch.int8).topk(k, dim=1).indices
    chosen = scaled.transpose(0, 1).gather(1, index[..., None].expand(-1, -1, scaled.shape[-1]))
    weight = routed.gather(1, index)
    return Routing(chosen, index.where(weight, len(scaled)), weight.to(scaled.dtype), scaled=True)


def expert_activations(
    projection: Projection, routing: Routing, keep: torch.Tensor | None = None, only: int | None = None
) -> Iterator[ExpertActivation]:
    """Yield each active expert's activations, in order of experts.

    keep: (n,) bool, the tokens to look at. only: the one expert to look at.
    """
    k, experts = routing.index.shape[1], len(projection.parts)
    slots = routing.index.reshape(-1)
    active = slots < experts
    if only is not None:
        active &= slots == only
    if keep is not None:
        active &= keep.to(active.device).repeat_interleave(k)
    order = torch.argsort(torch.where(active, slots, experts), stable=True)[: int(active.sum())]
    counts = torch.bincount(slots[order], minlength=experts).tolist()
    for expert, chosen in enumerate(order.split(counts)):
        if len(chosen) == 0:
            continue
        token, slot = chosen // k, chosen % k
        hidden = routing.hidden[token, slot] if routing.scaled else routing.hidden[token]
        x = expert_input(projection, hidden, expert)
        y = x @ projection.matrix(expert).float().T
        bias = projection.bias(Role.W_DOWN, expert)
        if bias is not None:
            y = y + bias.float()
        yield ExpertActivation(expert, token, x, y, routing.weight[token, slot].float())


def expert_input(projection: Projection, hidden: torch.Tensor, expert: int) -> torch.Tensor:
    """The input of an expert's output projection in float32, (n, cols), for hidden states (n, d_model)."""
    holder, hidden = projection.holder, hidden.float()
    gate, up = (_projected(projection, role, hidden, expert) for role in (Role.W_GATE, Role.W_UP))
    fuse, activation = _function(holder, "_apply_gate"), _function(holder, "act_fn", "activation_fn")
    into = projection.part(Role.W_UP, expert)
    if gate is not None and up is not None and into is not None and fuse is not None:
        # The module's own function takes both as the fused matrix gives them.
        interleaved = into.selection.groups > 1
        return fuse(torch.stack([gate, up], -1).flatten(-2) if interleaved else torch.cat([gate, up], -1))
    if up is None or activation is None:
        raise NotApplicable(
            f"what the experts of {type(holder).__name__} compute is not known",
            where=projection.name,
            remedy="this architecture's experts cannot be analysed; its dense projections can",
        )
    return activation(up) if gate is None else activation(gate) * up


@contextmanager
def forced_routing(projection: Projection, expert: int) -> Iterator[None]:
    """Send every token of a layer to one expert for as long as the block lasts.

    Where the router did not select it, it replaces the last selected expert and takes over its routing weight, so that
    the sum of the weights does not change. Raises AtlasError for a projection without stacked experts.
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


def _function(module: torch.nn.Module, *names: str) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """What a module has under the first of some names that it knows."""
    return next((found for name in names if (found := getattr(module, name, None)) is not None), None)


def _projected(projection: Projection, role: Role, hidden: torch.Tensor, expert: int) -> torch.Tensor | None:
    """What a matrix of an expert, with its bias, makes of hidden states, float32; None where it has no such matrix."""
    part = projection.part(role, expert)
    if part is None:
        return None
    bias = projection.bias(role, expert)
    product = hidden @ part.view().float().T
    return product if bias is None else product + bias.float()
