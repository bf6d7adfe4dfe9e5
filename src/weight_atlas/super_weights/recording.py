"""One forward pass over prompts that keeps what the attribution of massive activations needs.

Tensors stay on the device of their layer until the pass is over. For every layer are kept: the residual stream of all
tokens and, for the few tokens of each prompt at which the layer changes a channel most, the inputs and outputs of its
MLP output projections, in float32. Those of stacked experts are recomputed, for these tokens only; those of experts
that are separate modules are read from the modules.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from weight_atlas.errors import not_finite
from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import SHARED_EXPERT, Anatomy, Projection
from weight_atlas.live.experts import ExpertActivation, Routing, expert_activations, routing_of
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.residual_stream import residual_output
from weight_atlas.super_weights.expert_modules import blocks_of, hook_block
from weight_atlas.super_weights.prompts import Prompts


@dataclass(frozen=True)
class Flow:
    """Input and output of one projection (of one expert) at a few tokens.

    token: (m,) positions in the flattened (prompt, position) grid; x: (m, cols); y: (m, rows), before `factor`;
    factor: (m,) factor on y before it is added (routing weight, gate of a shared expert).
    """

    projection: Projection
    expert: int | None
    token: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    factor: torch.Tensor


@dataclass
class Recording:
    """What one pass keeps.

    residual: for the embedding and each layer, (prompts, length, d_model). kept: for each layer the tokens whose flows
    were kept, as flat positions in the (prompt, position) grid. routing: of each container of stacked experts, by name.
    expert_modules: activations of experts that are separate modules, by name of their projection. gates: values of
    shared experts' gates, by name of the expert's projection.
    """

    prompts: Prompts
    residual: list[torch.Tensor] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    kept: dict[int, torch.Tensor] = field(default_factory=dict)
    routing: dict[str, Routing] = field(default_factory=dict)
    expert_modules: dict[str, ExpertActivation] = field(default_factory=dict)
    gates: dict[str, torch.Tensor] = field(default_factory=dict)

    def flows_of(self, layer: int) -> list[Flow]:
        """The flows of a layer's projections."""
        return [flow for flow in self.flows if flow.projection.layer == layer]

    def keeps(self, layer: int, prompt: int, position: int) -> bool:
        """Whether the flows of a layer were kept for a token."""
        return bool((self.kept[layer] == position + prompt * self.prompts.ids.shape[1]).any())


def record(live: Anatomy, prompts: Prompts, *, tokens: int = 3, places: torch.Tensor | None = None) -> Recording:
    """Run the model once over all prompts. tokens: of each prompt, how many tokens' inputs are kept per projection.

    places: the tokens themselves, the same in every layer, as flat positions in the (prompt, position) grid.

    Raises AtlasError where an activation is not a finite number.
    """
    recording = Recording(prompts)
    hooks = _hooks(live, recording, tokens, places)
    try:
        with torch.no_grad(), out_of_memory_explained(f"a forward pass of {tuple(prompts.ids.shape)} tokens"):
            live.head.run(prompts.ids)
    finally:
        for hook in hooks:
            hook.remove()
    _check_finite(live, recording)
    recording.flows = [_weighted(live, recording, flow) for flow in recording.flows]
    return recording


def _hooks(live: Anatomy, recording: Recording, tokens: int, places: torch.Tensor | None) -> list:
    pending: list[Callable[[torch.Tensor], None]] = []

    def keep_embedding(module, inputs, keywords):
        recording.residual.append(residual_output(inputs[0] if inputs else keywords["hidden_states"]).detach())

    def finish_layer(layer: int):
        def keep_residual(module, inputs, output):
            h = residual_output(output).detach()
            change = (h - recording.residual[-1].to(h.device)).abs().amax(-1)
            recording.residual.append(h)
            strongest = _strongest(change, recording.prompts.valid, tokens) if places is None else places
            recording.kept[layer] = strongest
            while pending:
                pending.pop()(recording.kept[layer])

        return keep_residual

    hooks = [live.layers[0].register_forward_pre_hook(keep_embedding, with_kwargs=True)]
    hooks += [layer.register_forward_hook(finish_layer(number)) for number, layer in enumerate(live.layers)]
    for block in blocks_of(live):
        hooks += hook_block(live, block, _observe_modules(recording, pending))
    for projection in live.projections:
        if projection.expert is not None:
            continue
        keep = _stacked_hook if projection.stacked else _linear_hook
        hook = keep(recording, projection, pending)
        hooks.append(projection.container.register_forward_hook(hook, with_kwargs=True))
        gate = _shared_gate(live, projection)
        if gate is not None:
            hooks.append(gate.register_forward_hook(_gate_hook(recording, projection)))
    return hooks


def _linear_hook(recording: Recording, projection: Projection, pending: list) -> Callable:
    def keep(module, inputs, keywords, output):
        # Some models add the routed experts' output to this tensor in place.
        x, y = (value.reshape(-1, value.shape[-1]) for value in (inputs[0].detach(), output.detach().clone()))

        def slice_tokens(token: torch.Tensor) -> None:
            at = token.to(x.device)
            factor = torch.ones(len(at), device=x.device)
            recording.flows.append(Flow(projection, projection.expert, at, x[at].float(), y[at].float(), factor))

        pending.append(slice_tokens)

    return keep


def _stacked_hook(recording: Recording, projection: Projection, pending: list) -> Callable:
    def keep(module, inputs, keywords, output):
        routing = routing_of(projection, inputs, keywords)
        recording.routing[projection.name] = routing

        def slice_tokens(token: torch.Tensor) -> None:
            wanted = torch.zeros(len(routing.index), dtype=torch.bool, device=routing.index.device)
            wanted[token.to(wanted.device)] = True
            for one in expert_activations(projection, routing, wanted):
                recording.flows.append(Flow(projection, one.expert, one.token, one.x, one.y, one.weight))

        pending.append(slice_tokens)

    return keep


def _observe_modules(recording: Recording, pending: list) -> Callable:
    def observe(activations: list[tuple[Projection, ExpertActivation]]) -> None:
        recording.expert_modules |= {projection.name: one for projection, one in activations}

        def slice_tokens(token: torch.Tensor) -> None:
            for projection, one in activations:
                at = torch.isin(one.token, token.to(one.token.device))
                kept = (value[at] for value in (one.token, one.x, one.y, one.weight))
                recording.flows.append(Flow(projection, one.expert, *kept))

        pending.append(slice_tokens)

    return observe


def _gate_hook(recording: Recording, projection: Projection) -> Callable:
    def keep(module, inputs, output):
        recording.gates[projection.name] = output.detach().reshape(-1).float().sigmoid()

    return keep


def _shared_gate(live: Anatomy, projection: Projection) -> torch.nn.Module | None:
    """The module whose sigmoid multiplies a shared expert's output (Qwen2-MoE and similar), if there is one."""
    gates = live.parts_of(Role.W_ROUTER, projection.layer, None, SHARED_EXPERT) if projection.shared_expert else []
    return live.model.get_submodule(gates[0].module) if gates else None


def _weighted(live: Anatomy, recording: Recording, flow: Flow) -> Flow:
    """The flow with the other factors on its output: the gate of a shared expert, the scale of routed experts."""
    if flow.expert is not None:
        return replace(flow, factor=flow.factor * live.architecture.routed_scale)
    gate = recording.gates.get(flow.projection.name)
    return flow if gate is None else replace(flow, factor=gate[flow.token])


def _strongest(peak: torch.Tensor, valid: torch.Tensor, count: int) -> torch.Tensor:
    """Flat positions of the `count` largest peaks (n, length) of each prompt, padding left out."""
    n, length = valid.shape
    inside = torch.where(valid.to(peak.device), peak, -1.0)
    count = min(count, length)
    position = inside.topk(count, dim=1).indices + torch.arange(n, device=peak.device)[:, None] * length
    # Padding follows from the lengths, which needs no transfer from the device.
    real = torch.arange(count) < valid.sum(1, keepdim=True)
    return position.flatten()[real.flatten().nonzero()[:, 0].to(peak.device)]


def _check_finite(live: Anatomy, recording: Recording) -> None:
    padding = ~recording.prompts.valid[..., None]
    finite = [(torch.isfinite(h) | padding.to(h.device)).all().cpu() for h in recording.residual]
    bad = [layer for layer, flag in enumerate(finite) if not flag]
    if bad:
        where = f"{live.layers_path}.{bad[0] - 1}" if bad[0] else "the embedding"
        raise not_finite(where)
