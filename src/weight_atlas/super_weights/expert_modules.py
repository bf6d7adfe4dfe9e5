"""Experts that are modules of their own: which tokens reached each, and with which weight the block took its output.

Code that ships with checkpoints, and older code, calls `experts.N` with the rows of the tokens routed to it. Their rows
tell which tokens these are. The routing weights are read off what the block put out: output = sum_e r_e y_e, with one
unknown for every expert of the token and for the shared expert, and d_model equations. So nothing has to be known of
the router.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from weight_atlas.errors import NotApplicable
from weight_atlas.live.anatomy import Anatomy, Projection
from weight_atlas.live.experts import ExpertActivation
from weight_atlas.super_weights.finite import not_finite

# Largest part of a block's output that its experts may leave unexplained, relative to its norm or its largest part's.
UNEXPLAINED = 0.05
# Standard errors that a routing weight stands off zero.
SIGNIFICANT = 6.0


@dataclass(frozen=True)
class Block:
    """A module with a list of experts. experts: their output projections; others: those of shared experts in it."""

    layer: int
    name: str
    module: torch.nn.Module
    experts: tuple[Projection, ...]
    others: tuple[Projection, ...]


@dataclass
class _Pass:
    """What one call of a block showed. rows: of the experts' inputs; x, y: of projections, by name."""

    rows: dict[str, torch.Tensor] = field(default_factory=dict)
    x: dict[str, torch.Tensor] = field(default_factory=dict)
    y: dict[str, torch.Tensor] = field(default_factory=dict)


def blocks_of(live: Anatomy) -> list[Block]:
    """The blocks with listed experts, in order of layers; none in most models, which stack their experts."""
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


def watch_block(
    live: Anatomy, block: Block, note: Callable[[list[tuple[Projection, ExpertActivation]]], None]
) -> list[torch.utils.hooks.RemovableHandle]:
    """Call note at every pass of a block with what its experts did, in order of experts; returns the hooks."""
    seen = _Pass()

    def keep_rows(projection: Projection):
        def keep(module, inputs, keywords):
            given = next(value for value in (*inputs, *keywords.values()) if isinstance(value, torch.Tensor))
            seen.rows[projection.name] = _flat(given)

        return keep

    def keep_projection(projection: Projection):
        def keep(module, inputs, output):
            # Some blocks add to this tensor in place.
            seen.x[projection.name], seen.y[projection.name] = _flat(inputs[0]), _flat(output).clone()

        return keep

    def finish(module, inputs, keywords, output):
        given = next(value for value in (*inputs, *keywords.values()) if isinstance(value, torch.Tensor))
        whole = output[0] if isinstance(output, tuple) else output
        note(_activations(block, seen, _flat(given), _flat(whole)))
        seen.rows.clear()
        seen.x.clear()
        seen.y.clear()

    hooks = [block.module.register_forward_hook(finish, with_kwargs=True)]
    for projection in block.experts:
        expert = live.layers[block.layer].get_submodule(_expert_of(projection))
        hooks.append(expert.register_forward_pre_hook(keep_rows(projection), with_kwargs=True))
    return hooks + [
        projection.container.register_forward_hook(keep_projection(projection))
        for projection in (*block.experts, *block.others)
    ]


def _activations(
    block: Block, seen: _Pass, hidden: torch.Tensor, output: torch.Tensor
) -> list[tuple[Projection, ExpertActivation]]:
    reached = [p for p in block.experts if p.name in seen.x and len(seen.x[p.name])]
    for name in seen.y:
        if not bool(torch.isfinite(seen.x[name]).all() and torch.isfinite(seen.y[name]).all()):
            raise not_finite(name)
    keys = _keys(hidden)
    tokens = {p.name: _places(block, keys, _keys(seen.rows[p.name])) for p in reached}
    weights = _weights(block, seen, [p.name for p in reached], tokens, output)
    # Where every expert is computed for every token and then multiplied by its weight, zeros say who was not asked.
    dense = len(reached) > 1 and all(len(seen.x[p.name]) == len(hidden) for p in reached)
    found = []
    for projection in reached:
        weight, noise = weights[projection.name]
        asked = weight.abs() > (SIGNIFICANT * noise + 1e-6 if dense else -1.0)
        x, y = (value[projection.name][asked].float() for value in (seen.x, seen.y))
        token = tokens[projection.name].to(asked.device)[asked]
        if len(token):
            (expert,) = projection.experts
            found.append((projection, ExpertActivation(expert, token, x, y, weight[asked])))
    return found


def _weights(
    block: Block, seen: _Pass, names: Sequence[str], tokens: dict[str, torch.Tensor], output: torch.Tensor
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The factors on the experts' outputs, by least squares for each token, and their standard errors; float32."""
    n = len(output)
    shared = [p.name for p in block.others if len(seen.y.get(p.name, ())) == n]
    slots = torch.zeros(n, dtype=torch.long)
    place = {}
    for name in names:
        place[name] = slots[tokens[name].cpu()].clone()
        slots[tokens[name].cpu()] += 1
    width = max(int(slots.max()) + len(shared), 1)
    written = torch.zeros(n, width, output.shape[1], dtype=torch.float64)
    for name in names:
        written[tokens[name].cpu(), place[name]] = seen.y[name].double().cpu()
    for number, name in enumerate(shared):
        written[:, width - 1 - number] = seen.y[name].double().cpu()
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
    return {name: tuple(both[:, tokens[name].to(both.device), place[name].to(both.device)]) for name in names}


def _keys(rows: torch.Tensor) -> list[int]:
    """A number for each row that equal rows share and others do not, but by a chance of 2 ** -64."""
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator).to(rows.device) * 2 + 1
    return (rows.float().contiguous().view(torch.int32).long() * odd).sum(1).tolist()


def _places(block: Block, hidden: list[int], rows: list[int]) -> torch.Tensor:
    """For each row which token it is; tokens with equal rows are exchangeable: the router sees no more of them."""
    places: dict[int, deque[int]] = defaultdict(deque)
    for token, key in enumerate(hidden):
        places[key].append(token)
    try:
        return torch.tensor([places[key].popleft() for key in rows])
    except IndexError:
        raise NotApplicable(
            f"the tokens that reach the experts of {type(block.module).__name__} cannot be told",
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
