"""Checks of pieces against what a live model was seen to compute: each yields (what was checked, whether it holds)."""

import inspect
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import torch
from forward_truth import ACTIVATIONS, Observation, Pieces, close, first, proportional, used_as_operand

from weight_atlas.families.layouts import extract
from weight_atlas.families.roles import MATRIX_ROLES, Role
from weight_atlas.live.anatomy import Anatomy, Projection
from weight_atlas.live.edits import edited, zero
from weight_atlas.live.experts import expert_input

Checks = Iterator[tuple[str, bool]]


def attention(pieces: Pieces, seen: Observation, alone: Observation, layer: int, stack: str, component: str) -> Checks:
    """W_Q x, W_K x and W_V x are what attention is given, head by head; a lone token's value is what W_O is given."""
    rows = {role: pieces.of(layer, stack, role, component) for role in ("W_Q", "W_K", "W_V", "W_O", "W_attn_gate")}
    for role in ("W_Q", "W_K", "W_V"):
        for row in rows[role]:
            # Latent attention may order the rotated part of a head in pairs.
            ordered = not pieces.of(layer, stack, "W_KV_b", component)
            yield role, used_as_operand(pieces.output(row, seen).reshape(int(row.n_heads), -1), seen, ordered=ordered)
    if not (rows["W_V"] and rows["W_O"]):
        return
    (value,), (output,) = rows["W_V"], rows["W_O"]
    carried = pieces.output(value, alone).reshape(int(value.n_heads), -1)
    yield from output_heads(pieces, alone, carried, output, rows["W_attn_gate"])


def output_heads(pieces: Pieces, alone: Observation, carried: torch.Tensor, output, gate: list) -> Checks:
    """carried: values of a lone token (key-value heads, head_dim): each head of W_O's input is its group's value."""
    module = pieces.module(output)
    arrived = first(alone.inputs[module]).reshape(int(output.n_heads), -1)
    carried = carried.repeat_interleave(len(arrived) // len(carried), 0)
    if gate:
        carried = carried * torch.sigmoid(pieces.output(gate[0], alone).reshape(len(arrived), -1))
    yield "heads", all(proportional(one, other) for one, other in zip(arrived, carried, strict=True))
    given = first(alone.outputs[module])
    computed = pieces.output(output, alone)
    yield "W_O out", close(computed, given) or close(computed - pieces.bias(output), given)


def latent_attention(pieces, seen, alone, layer, stack, component) -> Checks:
    """The up-projections of latent attention give each head its query, and its value after its key."""
    for row in pieces.of(layer, stack, "W_Q_b", component):
        heads = pieces.output(row, seen).reshape(int(row.n_heads), -1)
        yield "W_Q_b", used_as_operand(heads, seen, ordered=False)
    both, output = (pieces.of(layer, stack, role, component) for role in ("W_KV_b", "W_O"))
    if both and output:
        heads = pieces.output(both[0], alone).reshape(int(both[0].n_heads), -1)
        gate = pieces.of(layer, stack, "W_attn_gate", component)
        yield from output_heads(pieces, alone, heads[:, -int(output[0].head_dim) :], output[0], gate)


def feed_forward(pieces, seen, alone, layer, stack, component) -> Checks:
    """W_down is given act(W_gate x) * W_up x, or act(W_up x)."""
    gate, up, down = (pieces.of(layer, stack, role, component) for role in ("W_gate", "W_up", "W_down"))
    if not down:
        return
    module = pieces.module(down[0])
    gated = pieces.output(gate[0], alone) if gate else None
    arrived = first(alone.inputs[module])
    yield "feed-forward", any(close(arrived, hidden) for hidden in hidden_states(gated, pieces.output(up[0], alone)))
    yield "W_down out", close(pieces.output(down[0], alone), first(alone.outputs[module]))


def hidden_states(gate: torch.Tensor | None, up: torch.Tensor) -> Iterator[torch.Tensor]:
    """What a feed-forward part may make of its gate and up projections."""
    for activation in ACTIVATIONS.values():
        yield activation(up) if gate is None else activation(gate) * up
    if gate is not None:  # Inkling; gpt-oss and its relatives
        yield 4 * torch.tanh(gate / 4) * torch.sigmoid(gate) * 25 * torch.tanh(up / 25)
        limited = gate.clamp(max=7.0)
        yield limited * torch.sigmoid(1.702 * limited) * (up.clamp(-7.0, 7.0) + 1)


def experts(pieces: Pieces, model: torch.nn.Module, places: pd.DataFrame) -> Checks:
    """Each expert's own output, from the live container of experts, is what our pieces of that expert give."""
    table = places[places["expert"].notna() & (places["component"] == "")]
    table = table[table["role"].isin(["W_gate", "W_up", "W_down"])]
    containers = [(name, module) for name, module in model.named_modules() if _holds_experts(module)]
    for (layer, expert), rows in table.groupby(["layer", "expert"]):
        by_role = {row.role: row for row in rows.itertuples()}
        live = [module for name, module in containers if f".{layer}." in f".{name}."]
        if not live:
            continue
        x = torch.randn(3, int(by_role["W_up"].cols), generator=torch.Generator().manual_seed(expert))
        project = {role: x @ pieces.load(row).T + pieces.bias(row) for role, row in by_role.items() if role != "W_down"}
        down, bias = pieces.load(by_role["W_down"]), pieces.bias(by_role["W_down"])
        given = expert_output(live[0], x, int(expert))
        hidden = hidden_states(project.get("W_gate"), project["W_up"])
        yield f"expert {expert} of layer {layer}", any(close(h @ down.T + bias, given) for h in hidden)


def _holds_experts(module: torch.nn.Module) -> bool:
    taken = set(inspect.signature(module.forward).parameters)
    return bool(taken & {"top_k_index", "router_indices"}) or type(module).__name__ == "Llama4TextExperts"


def expert_output(container: torch.nn.Module, x: torch.Tensor, expert: int) -> torch.Tensor:
    """What the live model's expert makes of x."""
    with torch.no_grad():
        if "Llama4" in type(container).__name__:
            count = container.gate_up_proj.shape[0]
            return container(x.repeat(count, 1)).reshape(count, *x.shape)[expert]
        return container(x, torch.full((len(x), 1), expert), torch.ones(len(x), 1)).reshape(x.shape)


def mixer(pieces, seen, alone, layer, stack, component) -> Checks:
    """Pieces of fused mixer inputs enter the convolution in their order, or a gate, or a product."""
    table = pieces.inventory
    here = table[(table["layer"] == layer) & (table["stack"] == stack) & (table["component"] == component)]
    here = here[here["role"].str.startswith("ssm_") & (here["piece"] != "")]
    for tensor, rows in here.groupby("tensor"):
        rows = {row.role: row for row in rows.itertuples()}
        given = {role: pieces.output(row, seen) for role, row in rows.items()}
        joined = [
            torch.cat([given[role] for role in roles])
            for roles in (("ssm_in",), ("ssm_in", "ssm_B", "ssm_C"), ("ssm_Q", "ssm_K", "ssm_V"))
            if all(role in given for role in roles)
        ]
        if given.keys() == {"ssm_in", "ssm_B", "ssm_C"}:  # a gated short convolution
            joined = [given["ssm_in"] * given["ssm_B"]]
        if "self_attn" in tensor:  # linear attention without a convolution
            heads = {role: torch.nn.functional.silu(output).reshape(4, -1) for role, output in given.items()}
            yield from ((role, used_as_operand(output, seen)) for role, output in heads.items())
        elif joined:
            yield "convolution", any(used_as_operand(output[None], seen) for output in joined)
        for role in {"ssm_gate", "ssm_dt", "ssm_beta"} & given.keys():
            shifted = given[role] + pieces.bias(rows[role])
            yield role, any(used_as_operand(output[None], seen) for output in (given[role], shifted))


def live_modules(live: Anatomy, seen: Observation) -> Checks:
    """Each live matrix, applied to what its module was given, gives what the module put out."""
    biases = {(part.name, part.selection.piece): part for part in live.parts if part.role is Role.BIAS}
    roles = MATRIX_ROLES - {Role.W_AUX, Role.W_ROUTER}
    inside = [part for part in live.parts if part.role in roles and part.layer is not None and part.stack != "other"]
    for part in inside:
        if part.stacked or not part.name.endswith(".weight") or part.module not in seen.outputs:
            continue
        given, put_out = seen.inputs[part.module], seen.outputs[part.module]
        if put_out.shape[:-1] != given.shape[:-1]:
            continue
        bias = biases.get((f"{part.module}.bias", part.selection.piece))
        share = extract(put_out.flatten(0, -2).T, replace(part.selection, transposed=False)).T
        matrix = extract(part.parameter.data, part.selection)
        product = given.flatten(0, -2) @ matrix.T
        if bias is not None:
            product = product + extract(bias.parameter.data, bias.selection)
        yield f"live {part.role} of {part.module}", close(product, share)


def live_routers(live: Anatomy, seen: Observation) -> Checks:
    """The router's matrix, applied to what it was given, gives its logits, or what it makes of them."""
    for part in live.parts:
        if part.role is Role.W_ROUTER and part.stack != "other" and part.module in seen.inputs:
            bias = [each for each in live.parts if each.name == f"{part.module}.bias" and each.of_role == part.role]
            put_out = seen.outputs[part.module].flatten(0, -2)
            product = seen.inputs[part.module].flatten(0, -2) @ part.view().T + sum(each.view() for each in bias)
            # Inkling's last columns are shared experts'; Llama 4 puts zero where an expert was not chosen.
            logits = product[:, : put_out.shape[1]]
            chosen = logits.sigmoid().where(put_out != 0, 0)
            yield (
                f"live router {part.module}",
                any(close(each, put_out) for each in (logits, logits.softmax(-1), chosen)),
            )


def live_experts(live: Anatomy) -> Checks:
    """What is computed for a stacked expert is what its container puts out when it is sent every token."""
    for projection in live.projections:
        if not (projection.stacked and _holds_experts(projection.container)):
            continue
        for expert in range(projection.n_experts):
            into = projection.part(Role.W_UP, expert).view()
            x = torch.randn(3, into.shape[1], generator=torch.Generator().manual_seed(expert))
            bias = projection.bias(Role.W_DOWN, expert)
            y = expert_input(projection, x, expert) @ projection.matrix(expert).T + (0.0 if bias is None else bias)
            yield f"live expert {expert} of {projection.name}", close(y, expert_output(projection.container, x, expert))


def live_edits(live: Anatomy, seen: Observation) -> Checks:
    """A weight of the last projection set to zero takes its product off one channel of the output, and nothing else."""
    projection: Projection = live.projections[-1]
    expert = projection.n_experts - 1 if projection.stacked else projection.expert
    matrix, row, col = projection.matrix(expert), 3, projection.shape[1] - 2
    if projection.stacked and _holds_experts(projection.container):
        x = torch.randn(
            3, projection.part(Role.W_UP, expert).view().shape[1], generator=torch.Generator().manual_seed(0)
        )
        inner = expert_input(projection, x, expert)
        run = lambda: expert_output(projection.container, x, expert)  # noqa: E731
    elif projection.stacked or projection.name not in seen.inputs:
        return
    else:
        inner = seen.inputs[projection.name].flatten(0, -2)
        run = lambda: projection.container(inner).detach()  # noqa: E731
    wanted = torch.zeros(len(inner), projection.shape[0])
    wanted[:, row] = inner[:, col] * matrix[row, col]
    before = run()
    with edited(live, [zero(projection.coordinate(row, col, expert))]):
        after = run()
    yield f"an edit of {projection.name}", close(before - after, wanted)
