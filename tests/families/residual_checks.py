"""Checks of norms and the unembedding against a live model: each yields (what was checked, whether it holds)."""

import inspect
import re
from collections.abc import Iterator

import pandas as pd
import torch
from forward_truth import Observation, Pieces, first, observe

from weight_atlas.families.pieces import load_gain
from weight_atlas.families.roles import centres
from weight_atlas.vocabulary.neurons import neuron_blocks
from weight_atlas.vocabulary.readout import Readout

Checks = Iterator[tuple[str, bool]]
FEEDS = ("W_gate", "W_up", "W_router")
EPS = ("eps", "variance_epsilon")
NEURON, STEP = 3, 0.5
ATTENDS = ("W_Q", "W_K", "W_V", "W_Q_a", "W_KV_a", "ssm_in", "ssm_Q", "ssm_K")


def norms(pieces: Pieces, seen: Observation, live: torch.nn.Module) -> Checks:
    """Each norm computes what its row says: its kind of its input, times its gain, plus its bias."""
    for row in _norms(pieces.inventory):
        module = pieces.module(row)
        given, made = seen.inputs.get(module), seen.outputs.get(module)
        if given is None or made is None or given.shape != made.shape or given.shape[-1] != row.rows:
            continue  # norms of one head at a time
        if len(inspect.signature(live.get_submodule(module).forward).parameters) > 1:
            continue  # norms of a gated input
        eps = next(value for name in EPS if isinstance(value := getattr(live.get_submodule(module), name, None), float))
        yield f"{row.tensor} is a {row.norm}", near(normalised(pieces, row, given, eps), made)


def normalised(pieces: Pieces, row, x: torch.Tensor, eps: float) -> torch.Tensor:
    """What a norm of the kind that its row says makes of x, in float64."""
    x = x.double()
    x = x - x.mean(dim=-1, keepdim=True) if centres(row.norm) else x
    x = x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return load_gain(pieces.checkpoint, row).double() * x + _bias_of_norm(pieces, row)


def _bias_of_norm(pieces: Pieces, row) -> torch.Tensor | float:
    twin = row.tensor.removesuffix("weight") + "bias", row.tensor.removesuffix("gamma") + "beta"
    biases = [bias for bias in pieces.biases if bias.tensor in twin]
    return pieces.load(biases[0]).double() if biases else 0.0


def _norms(inventory: pd.DataFrame) -> Iterator:
    return inventory[(inventory["role"] == "norm") & (inventory["stack"] != "other")].itertuples()


def places(pieces: Pieces, seen: Observation) -> Checks:
    """Norms of layers stand where their rows say, and those whose rows say nothing stand at none of the places."""
    for row in _norms(pieces.inventory):
        module = pieces.module(row)
        given, made = seen.inputs.get(module), seen.outputs.get(module)
        if pd.isna(row.layer) or given is None:
            continue
        found = set()
        for kind, writers, readers in (("mlp", ("W_down",), FEEDS), ("attention", ("W_O", "ssm_out"), ATTENDS)):
            # A stack of experts is known by its router.
            if any(same(given, seen.outputs.get(name)) for name in _around(pieces, row, (*writers, "W_router"))):
                found.add(f"post_{kind}")
            if any(same(made, seen.inputs.get(name)) for name in _around(pieces, row, readers)):
                found.add(f"pre_{kind}")
        if found == {"pre_mlp"} and row.component == "pre_attention" and not list(_around(pieces, row, ATTENDS)):
            continue  # a layer that is only a feed-forward part
        yield f"{row.tensor} stands at {row.component or 'no place'}, seen at {sorted(found)}", _agrees(row, found)


def _around(pieces: Pieces, row, roles: tuple[str, ...]) -> Iterator[str]:
    """Names of the modules in a layer that hold matrices of these roles, and of those around them in the layer."""
    for weight in (weight for role in roles for weight in pieces.of(row.layer, row.stack, role)):
        name = pieces.module(weight)
        below = name.removeprefix(layer := _layer_of(name, row)).count(".")
        yield from (name.rsplit(".", up)[0] for up in range(below) if name != layer)


def _layer_of(name: str, row) -> str:
    """A module's name up to the number of its layer."""
    before, number, _ = re.split(rf"(?<=\.)({int(row.layer)})(?=\.|$)", name, maxsplit=1)
    return before + number


def _agrees(row, found: set[str]) -> bool:
    if row.component in ("post_mlp", "post_dense", "post_experts"):
        return not found or "post_mlp" in found
    if row.component in ("pre_mlp", "pre_attention", "post_attention"):
        # Some modules add the residual stream themselves, or are given more than the norm's output.
        return not found or row.component in found
    return "post_mlp" not in found and "pre_attention" not in found


def readout_is_the_logits(readout: Readout, residual: torch.Tensor, logits: torch.Tensor) -> Checks:
    """The readout of the stream after the last layer is the model's logits, scale, biases and softcap included."""
    # Some models leave out the logits of ids that only fill up the embedding.
    found = readout.logits(residual.reshape(-1, residual.shape[-1]))[:, : logits.shape[-1]]
    logits = logits.reshape(found.shape)
    yield f"logits, {(found - logits).abs().max():.1e} off", near(found, logits)


def last_layer(pieces: Pieces) -> str:
    """Name of the last module of the decoder's residual stream."""
    table = pieces.inventory
    table = table[(table["stack"] == "decoder") & table["expert"].isna() & table["layer"].notna()]
    table = table[(table["role"] != "bias") & (table["parameters"] > 0)]
    row = next(table[table["layer"] == table["layer"].max()].itertuples())
    return _layer_of(pieces.module(row), row)


def neurons(pieces: Pieces, model: torch.nn.Module, readout: Readout, seen: Observation, residual) -> Checks:
    """What a neuron of the last layer adds to the stream is its vector, along what a norm after the MLP lets through.

    residual(observation): the stream after the last layer. A norm of x + d w, with gain g, differs from that of x by
    a multiple of g x, which is its output, and by d g w / rms(x + d w).
    """
    table = pieces.inventory
    last = table[(table["stack"] == "decoder") & (table["layer"] == table["layer"].max())]
    down = last[(last["role"] == "W_down") & last["expert"].isna()]
    if down.empty:
        return
    gains = {
        row.component: (load_gain(pieces.checkpoint, row), pieces.module(row))
        for row in last[last["role"] == "norm"].itertuples()
        if row.component in ("post_mlp", "post_dense", "post_experts")
    }
    for block in neuron_blocks(pieces.checkpoint, table, readout, rows=down):
        row = next(down[down["tensor"] == block.tensor].itertuples())
        changed = _with_neuron(model, pieces.module(row))
        written = first(residual(changed)) - first(residual(seen))
        passed = [
            first(seen.outputs[module]) * (gains["post_mlp"][0] if place != "post_mlp" and "post_mlp" in gains else 1.0)
            for place, (_, module) in gains.items()
        ]
        vector = block.vectors[:, NEURON]
        basis = torch.stack([vector, *passed], dim=1).double()
        fitted = torch.linalg.lstsq(basis, written.double()[:, None], driver="gelsd").solution
        yield f"direction of {block.tensor}", near(basis @ fitted, written[:, None])
        size = STEP if not gains else STEP / _rms(first(changed.inputs[next(iter(gains.values()))[1]]))
        if len(gains) < 2 and not block.component:  # a shared expert may have a gate
            yield f"size of {block.tensor}, {float(fitted[0, 0] / size):.4f}", abs(fitted[0, 0] / size - 1) < 1e-3


def _with_neuron(model: torch.nn.Module, module: str) -> Observation:
    """A run with one neuron's activation raised at every token."""

    def raise_it(module, inputs):
        x = inputs[0].clone()
        x[..., NEURON] += STEP
        return (x, *inputs[1:])

    handle = model.get_submodule(module).register_forward_pre_hook(raise_it)
    try:
        return observe(model)
    finally:
        handle.remove()


def _rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())


def same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Whether two recordings are of the same vectors, whatever their leading dimensions."""
    if one is None or other is None or one.numel() != other.numel() or one.shape[-1] != other.shape[-1]:
        return False
    width = one.shape[-1]
    return torch.allclose(one.reshape(-1, width).float(), other.reshape(-1, width).float(), rtol=1e-5, atol=1e-6)


def near(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Equal to 1e-4 of the largest value."""
    found, wanted = found.double(), wanted.double()
    return found.shape == wanted.shape and bool((found - wanted).abs().max() <= 1e-4 * wanted.abs().max())
