"""What a live model computes with its weights, seen from outside: an independent truth for roles, layouts and heads.

A tiny model runs once on a few tokens. Recorded are the input and output of every module and every operand of a matrix
product or attention call. At position 0 rotary embeddings are the identity, so that the queries, keys and values that
the model's attention really uses there must be W_Q x, W_K x, W_V x of our pieces, head by head.
"""

import inspect
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd
import torch
from torch.overrides import TorchFunctionMode

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.families.pieces import load_piece

LENGTH = 5  # tokens; no other dimension of the tiny models has this size
PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention", "conv1d"}
GATES = {"silu", "sigmoid", "softplus"}
ACTIVATIONS = {
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": torch.relu,
    "squared_relu": lambda x: torch.relu(x) ** 2,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
# Norms between a projection and its use, taken out of the live model so that the projection itself is seen.
INNER_NORMS = (
    "q_norm", "k_norm", "v_norm", "q_layernorm", "k_layernorm", "query_layernorm", "key_layernorm", "qk_norm", "q_ln",
    "k_ln", "attn_sub_norm", "ffn_sub_norm",
)  # fmt: skip


@dataclass
class Observation:
    """One run of a model: inputs and outputs of its modules by name, the operands of products, and the logits."""

    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)
    operands: list[torch.Tensor] = field(default_factory=list)
    logits: torch.Tensor | None = None

    @cached_property
    def operands_at_first_position(self) -> list[torch.Tensor]:
        """What each operand is at position 0, for every axis that may be the positions; those of one size are rows."""
        found: dict[int, list[torch.Tensor]] = {}
        for operand in filter(torch.is_floating_point, self.operands):
            if operand.ndim == 2 and operand.shape[0] % LENGTH == 0:  # tokens and heads in one dimension
                operand = operand.reshape(LENGTH, -1)
            for axis in (axis for axis, size in enumerate(operand.shape) if size == LENGTH):
                values = operand.select(axis, 0).flatten()
                found.setdefault(len(values), []).append(values)
        return [torch.stack(rows).unique(dim=0) for rows in found.values()]


class _Operands(TorchFunctionMode):
    def __init__(self, kept: list[torch.Tensor]):
        super().__init__()
        self.kept = kept

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in PRODUCTS | GATES:
            every = [*args, *(kwargs or {}).values()]
            self.kept += [value.detach() for value in every if isinstance(value, torch.Tensor) and value.ndim > 1]
        return function(*args, **(kwargs or {}))


def without_inner_norms(model: torch.nn.Module) -> torch.nn.Module:
    """Take inner norms out of a model, in place."""
    for module in list(model.modules()):
        for name, _ in list(module.named_children()):
            if name in INNER_NORMS and "Indexer" not in type(module).__name__:
                setattr(module, name, torch.nn.Identity())
    return model


def observe(model: torch.nn.Module, length: int = LENGTH) -> Observation:
    """Run a model once on this many tokens."""
    seen = Observation()
    hooks = [
        module.register_forward_hook(_keep(seen, name), with_kwargs=True) for name, module in model.named_modules()
    ]
    tokens = torch.arange(length).reshape(1, -1) + 7
    more = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    if "use_cache" in inspect.signature(model.forward).parameters:
        more["use_cache"] = False
    with torch.no_grad(), _Operands(seen.operands):
        seen.logits = getattr(model(tokens, **more), "logits", None)
    for hook in hooks:
        hook.remove()
    return seen


def _keep(seen: Observation, name: str):
    def hook(module, args, kwargs, output):
        given = [*args, *kwargs.values()]
        tensor = next((value for value in given if isinstance(value, torch.Tensor) and value.is_floating_point()), None)
        if tensor is not None and name not in seen.inputs:
            seen.inputs[name] = tensor.detach().clone()
        result = output[0] if isinstance(output, tuple | list) else output
        if isinstance(result, torch.Tensor) and name not in seen.outputs:
            seen.outputs[name] = result.detach().clone()

    return hook


class Pieces:
    """The pieces of a checkpoint with the live module that holds each."""

    def __init__(self, checkpoint: Checkpoint, inventory: pd.DataFrame, model: torch.nn.Module):
        self.checkpoint, self.inventory = checkpoint, inventory
        self._modules: dict[tuple, list[str]] = {}
        self._loaded: dict[str, torch.Tensor] = {}
        # Lists: to ask the table for rows takes longer than the model does.
        rows = list(inventory.itertuples())
        self.biases = [row for row in rows if row.role == "bias"]
        self._outside_experts: dict[tuple, list] = {}
        for row in rows:
            if pd.isna(row.expert) and not pd.isna(row.layer):
                self._outside_experts.setdefault((row.layer, row.stack, row.role, row.component), []).append(row)
        for name, module in model.named_modules():
            for parameter in module.parameters(recurse=False):
                self._modules.setdefault(_fingerprint(parameter), []).append(name)

    def of(self, layer: int, stack: str, role: str, component: str = "") -> list:
        """Rows of a role in a layer that are no experts of a routed layer."""
        return self._outside_experts.get((layer, stack, role, component), [])

    def bias(self, row) -> torch.Tensor | float:
        """The bias of a weight's piece, or 0."""
        for bias in self.biases:
            if (bias.of_role, bias.stack, bias.component) == (row.role, row.stack, row.component) and (
                (pd.isna(row.layer) or _same(bias.layer, row.layer)) and _same(bias.expert, row.expert)
            ):
                return self.load(bias)
        return 0.0

    def load(self, row) -> torch.Tensor:
        if row.id not in self._loaded:
            self._loaded[row.id] = load_piece(self.checkpoint, row).float()
        return self._loaded[row.id]

    def module(self, row) -> str:
        """Name of the live module that holds the stored tensor of a row, found by its values."""
        names = self._modules.get(_fingerprint(self.checkpoint.read(row.tensor)), [])
        names = names or self._modules.get(_fingerprint(self.load(row)), [])
        assert names, f"no live module holds {row.tensor}"
        return names[0]

    def output(self, row, seen: Observation) -> torch.Tensor:
        """What a weight's piece gives at position 0 by our reading: W x + b, with x what its module was given."""
        product = self.load(row) @ first(seen.inputs[self.module(row)])
        bias = self.bias(row)
        if isinstance(bias, torch.Tensor) and len(bias) < len(product):  # one for each head
            bias = bias.repeat_interleave(len(product) // len(bias))
        return product + bias


def _same(one: float, other: float) -> bool:
    missing = pd.isna(one), pd.isna(other)
    return all(missing) if any(missing) else one == other


def _fingerprint(tensor: torch.Tensor) -> tuple:
    values = tensor.detach().double().flatten()
    return values.numel(), round(values.sum().item(), 4), round(values.abs().max().item(), 5)


def first(states: torch.Tensor) -> torch.Tensor:
    """The vector at position 0 of batch 0."""
    return states.reshape(-1, states.shape[-1])[0]


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def used_as_operand(wanted: torch.Tensor, seen: Observation, ordered: bool = True) -> bool:
    """Whether vectors (heads, head_dim) at position 0 are an operand of a product or gate, but for a positive factor.

    Keys and values may stand there once for each query head that shares them. ordered: or else in any order in a head.
    """
    for values in seen.operands_at_first_position:
        times, rest = divmod(values.shape[1], wanted.numel())
        if rest or not times:
            continue
        for many in (wanted.repeat_interleave(times, 0), wanted.repeat(times, 1)):
            both = values.reshape(-1, *many.shape), many[None]
            one, other = both if ordered else (x.sort(-1).values for x in both)
            if proportional(one.flatten(1), other.flatten()).any():
                return True
    return False


def proportional(values: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Whether vectors (..., size) agree with one vector but for a positive factor, each with its own."""
    factor = (values @ wanted / (wanted @ wanted))[..., None]
    near = (values - factor * wanted).abs() <= 1e-4 * factor + 1e-3 * (factor * wanted).abs()
    return (factor[..., 0] > 1e-3) & near.all(-1)
