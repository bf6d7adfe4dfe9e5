"""Logical views of live weights by role: MLP matrices of a layer, embedding and head."""

import re

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.lm.anatomy import Anatomy, Coordinate, Projection

GATE = re.compile(r"(^|\.)(gate_proj|w1|linear_gate)$")
UP = re.compile(r"(^|\.)(up_proj|w3|fc1|c_fc|fc_in|dense_h_to_4h|lin1|key|0|layer_1|intermediate\.dense|ffn)$")
FUSED = re.compile(r"(^|\.)(gate_up_proj|input_linear|Wi)$")


def matrix_at(live: Anatomy, coordinate: Coordinate) -> torch.Tensor:
    """The logical (out, in) view of the matrix that a coordinate lies in, sharing the live model's memory.

    Roles: W_down, W_gate, W_up of a layer's MLP or expert; W_E and W_U, (vocabulary, d_model), of the model, whose
    layer is not read. Raises AtlasError for a role that the layer does not have.
    """
    match coordinate.role:
        case "W_E":
            return live.model.get_input_embeddings().weight.data
        case "W_U":
            return live.model.get_output_embeddings().weight.data
    projection = live.projection(coordinate)
    if projection.stacked:
        _check_expert(projection, coordinate)
    if coordinate.role == "W_down":
        return projection.matrix(coordinate.expert if projection.stacked else None)
    view = None
    if coordinate.role in ("W_gate", "W_up"):
        view = (_stacked_input if projection.stacked else _linear_input)(live, projection, coordinate)
    if view is None:
        raise AtlasError(f"no matrix of role {coordinate.role} at {coordinate}", where=projection.name)
    return view


def _check_expert(projection: Projection, coordinate: Coordinate) -> None:
    if not 0 <= coordinate.expert < projection.n_experts:
        raise AtlasError(f"{coordinate}: {projection.name} has {projection.n_experts} experts, numbered from 0")


def _linear_input(live: Anatomy, projection: Projection, coordinate: Coordinate) -> torch.Tensor | None:
    layer = live.layers[projection.layer]
    parent, _, _ = projection.component.rpartition(".")
    siblings = [
        (name, module)
        for name, module in layer.named_modules()
        if name.startswith(parent) and getattr(module, "weight", None) is not None and module.weight.ndim == 2
    ]
    # BERT and OPT keep the two projections apart: nothing but their names relates them.
    if not any(UP.search(name) or FUSED.search(name) for name, _ in siblings):
        siblings = [(n, m) for n, m in layer.named_modules() if getattr(m, "weight", None) is not None]
    own = GATE if coordinate.role == "W_gate" else UP
    for name, module in siblings:
        weight = module.weight.data
        logical = weight.T if type(module).__name__ == "Conv1D" else weight
        if own.search(name) and logical.shape[0] == projection.shape[1]:
            return logical
        if FUSED.search(name) and logical.shape[0] == 2 * projection.shape[1]:
            return logical.chunk(2)[0 if coordinate.role == "W_gate" else 1]
    return None


def _stacked_input(live: Anatomy, projection: Projection, coordinate: Coordinate) -> torch.Tensor | None:
    holder = live.layers[projection.layer].get_submodule(projection.component)
    own = dict(holder.named_parameters(recurse=False))
    gate, expert = coordinate.role == "W_gate", coordinate.expert
    if projection.layout == "experts_flat":
        weight = own["w1" if gate else "v1"].data
        return weight.view(projection.n_experts, -1, weight.shape[1])[expert]
    if "up_proj" in own and not gate:
        weight = own["up_proj"].data[expert]
        return weight.T if projection.layout == "experts_transposed" else weight
    if "gate_up_proj" not in own:
        return None
    weight = own["gate_up_proj"].data[expert]
    logical = weight.T if projection.layout == "experts_transposed" else weight
    if getattr(holder, "is_concatenated", True):
        return logical.chunk(2)[0 if gate else 1]
    return logical[0 if gate else 1 :: 2]
