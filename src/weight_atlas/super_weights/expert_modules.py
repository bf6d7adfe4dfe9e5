"""Experts stored as separate modules: the tokens routed to each, and their routing weights.

Code that ships with checkpoints, and older code, calls `experts.N` with the hidden states of the tokens routed to it,
which identify the tokens. The routing weights are solved for from the output of the block: output = sum_e r_e y_e, with
one unknown for each expert of the token and for the shared expert, and d_model equations. Nothing need be known of the
router.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from weight_atlas.errors import NotApplicable, not_finite
from weight_atlas.live.anatomy import Anatomy, Projection
from weight_atlas.live.experts import ExpertActivation

# Largest residual of the least squares, relative to the norm of the block's output or of its largest term.
UNEXPLAINED = 0.05
# Standard errors by which a routing weight must differ from zero.
SIGNIFICANT = 6.0


@dataclass(frozen=True)
class Block:
    """A module with a list of experts. experts: their output projections; others: those of its shared experts."""

    layer: int
    name: str
    module: torch.nn.Module
    experts: tuple[Projection, ...]
    others: tuple[Projection, ...]


@dataclass
class _Call:
    """Tensors of one call of a block, by projection. rows: inputs of experts; x, y: of the projections."""

    rows: dict[str, torch.Tensor] = field(default_factory=dict)
    x: dict[str, torch.Tensor] = field(default_factory=dict)
    y: dict[str, torch.Tensor] = field(default_factory=dict)


def blocks_of(live: Anatomy) -> list[Block]:
    """The blocks whose experts are separate modules, in order of layers; none where experts are stacked."""
    grouped: dict[tuple[int, str], list[Projection]] = defaultdict(list)
    for projection in live.projections:
        if projection.expert is not None:
            grouped[projection.layer, _block_of(projection)].append(projection)
    blocks = []
    for (layer, component), experts in grouped.items():
        inside = [p for p in live.projections if p.layer == layer and p.expert is None and not p.stacked]
        others = [p for p in inside if p.component.startswith(f"{component}." if component else "")]
        module = live.layers[layer].get_submodule(component)
        name = f"{live.layers_path}.{layer}{'.' if component else ''}{component}"
        blocks.append(Block(layer, name, module, tuple(experts), tuple(others)))
    return blocks


def hook_block(
    live: Anatomy, block: Block, observe: Callable[[list[tuple[Projection, ExpertActivation]]], None]
) -> list[torch.utils.hooks.RemovableHandle]:
    """Call observe after every pass of a block with the activations of its experts; returns the hooks."""
    call = _Call()

    def keep_rows(projection: Projection):
        def keep(module, inputs, keywords):
            given = next(value for value in (*inputs, *keywords.values()) if isinstance(value, torch.Tensor))
            call.rows[projection.name] = _flat(given)

        return keep

    def keep_projection(projection: Projection):
        def keep(module, inputs, output):
            # Some blocks add to this tensor in place.
            call.x[projection.name], call.y[projection.name] = _flat(inputs[0]), _flat(output).clone()

        return keep

    def finish(module, inputs, keywords, output):
        given = next(value for value in (*inputs, *keywords.values()) if isinstance(value, torch.Tensor))
        whole = output[0] if isinstance(output, tuple) else output
        observe(_activations(block, call, _flat(given), _flat(whole)))
        call.rows.clear()
        call.x.clear()
        call.y.clear()

    hooks = [block.module.register_forward_hook(finish, with_kwargs=True)]
    for projection in block.experts:
        expert = live.layers[block.layer].get_submodule(_expert_of(projection))
        hooks.append(expert.register_forward_pre_hook(keep_rows(projection), with_kwargs=True))
    return hooks + [
        projection.container.register_forward_hook(keep_projection(projection))
        for projection in (*block.experts, *block.others)
    ]


def _activations(
    block: Block, call: _Call, hidden: torch.Tensor, output: torch.Tensor
) -> list[tuple[Projection, ExpertActivation]]:
    reached = [p for p in block.experts if p.name in call.x and len(call.x[p.name])]
    for name in call.y:
        if not bool(torch.isfinite(call.x[name]).all() and torch.isfinite(call.y[name]).all()):
            raise not_finite(name)
    keys = _keys(hidden)
    tokens = {p.name: _token_indices(block, keys, _keys(call.rows[p.name])) for p in reached}
    weights = _weights(block, call, [p.name for p in reached], tokens, output)
    # Where every expert is computed for every token, those that were not selected have a routing weight of zero.
    dense = len(reached) > 1 and all(len(call.x[p.name]) == len(hidden) for p in reached)
    activations = []
    for projection in reached:
        weight, noise = weights[projection.name]
        routed = weight.abs() > (SIGNIFICANT * noise + 1e-6 if dense else -1.0)
        x, y = (value[projection.name][routed].float() for value in (call.x, call.y))
        token = tokens[projection.name].to(routed.device)[routed]
        if len(token):
            (expert,) = projection.experts
            activations.append((projection, ExpertActivation(expert, token, x, y, weight[routed])))
    return activations


def _weights(
    block: Block, call: _Call, names: Sequence[str], tokens: dict[str, torch.Tensor], output: torch.Tensor
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Routing weights of the experts by least squares for each token, and their standard errors; float32."""
    n = len(output)
    shared = [p.name for p in block.others if len(call.y.get(p.name, ())) == n]
    slots = torch.zeros(n, dtype=torch.long)
    slot_of = {}
    for name in names:
        slot_of[name] = slots[tokens[name].cpu()].clone()
        slots[tokens[name].cpu()] += 1
    width = max(int(slots.max()) + len(shared), 1)
    written = torch.zeros(n, width, output.shape[1], dtype=torch.float64)
    for name in names:
        written[tokens[name].cpu(), slot_of[name]] = call.y[name].double().cpu()
    for number, name in enumerate(shared):
        written[:, width - 1 - number] = call.y[name].double().cpu()
    wanted = output.double().cpu()
    freedom = output.shape[1] - width
    if freedom < width:
        raise NotApplicable(
            f"{width} experts of {type(block.module).__name__} for each token cannot be told apart in "
            f"{output.shape[1]} channels",
            where=block.name,
            remedy="this architecture's experts cannot be analysed: switch off super_weights and expert_routing for it",
        )
    inverse = torch.linalg.pinv(written @ written.mT, hermitian=True)
    solved = inverse @ (written @ wanted[..., None])
    parts = solved * written
    left, size = wanted - parts.sum(1), torch.maximum(wanted.norm(dim=1), parts.norm(dim=2).amax(1))
    if bool((left.norm(dim=1) > UNEXPLAINED * size).any()):
        raise NotApplicable(
            f"the output of {type(block.module).__name__} is not a sum of its experts' outputs",
            where=block.name,
            remedy="this architecture's experts cannot be analysed: switch off super_weights and expert_routing for it",
        )
    noise = (left.norm(dim=1) / freedom**0.5)[:, None] * inverse.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    both = torch.stack([solved[..., 0], noise]).float().to(output.device)
    return {name: tuple(both[:, tokens[name].to(both.device), slot_of[name].to(both.device)]) for name in names}


def _keys(rows: torch.Tensor) -> list[int]:
    """A hash of each row: equal for equal rows, and for others with a probability of 2 ** -64."""
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator).to(rows.device) * 2 + 1
    return (rows.float().contiguous().view(torch.int32).long() * odd).sum(1).tolist()


def _token_indices(block: Block, hidden: list[int], rows: list[int]) -> torch.Tensor:
    """Index of the token of each row; tokens with equal rows are exchangeable, since the router sees only the rows."""
    tokens_of: dict[int, deque[int]] = defaultdict(deque)
    for token, key in enumerate(hidden):
        tokens_of[key].append(token)
    try:
        return torch.tensor([tokens_of[key].popleft() for key in rows])
    except IndexError:
        raise NotApplicable(
            f"the tokens that reach the experts of {type(block.module).__name__} cannot be identified",
            where=block.name,
            remedy="this architecture's experts cannot be analysed: switch off super_weights and expert_routing for it",
        ) from None


def _flat(values: torch.Tensor) -> torch.Tensor:
    return values.detach().reshape(-1, values.shape[-1])


def _block_of(projection: Projection) -> str:
    """Path of the block below its layer: mlp.experts.3.down_proj -> mlp."""
    *block, _ = _expert_of(projection).split(".")[:-1]
    return ".".join(block)


def _expert_of(projection: Projection) -> str:
    """Path of the expert below its layer: mlp.experts.3.down_proj -> mlp.experts.3."""
    path = projection.component.split(".")
    return ".".join(path[: path.index(str(projection.expert)) + 1])
