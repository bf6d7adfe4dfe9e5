"""The live model's layers and MLP output projections, whatever its family calls them.

A checkpoint's names are not the live model's: transformers stacks experts and moves prefixes. Here the modules
themselves are read. Every weight is presented in the logical layout (out, in) of nn.Linear, as a view of the live
parameter, so that writing to it edits the model.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property

import torch

from weight_atlas.errors import AtlasError

# What families call the projection from the MLP's neurons back to the residual stream, relative to the layer.
OUTPUT_PROJECTION = re.compile(
    r"""(^|\.)(
        down_proj | fc2 | dense_4h_to_h | fc_out | w2 | Wo | lin2 | layer_2 | ffn_output
      | (mlp|feed_forward|ffn|shared_mlp|block_sparse_moe)\.(c_proj|value|output_linear|proj_out|2)
      | (mlp|feed_forward|ffn)\.wo
      | output\.dense
    )$""",
    re.VERBOSE,
)
EDITABLE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Modules whose inner projections do not write what an MLP writes.
NOT_MLP = re.compile(r"(^|\.)(self_attn|self_attention|attention|attn|cross\w*|[a-z_]*norm|experts_router)(\.|$)")
LISTED_EXPERT = re.compile(r"(^|\.)experts\.(\d+)\.")
SHARED = re.compile(r"shared")


@dataclass(frozen=True, order=True)
class Coordinate:
    """One weight, or a slice of them, in the logical layout (out, in) of a matrix.

    row: output channel; col: input channel (of W_down: the neuron); None takes all of that axis. component: the
    module's path below its layer, needed only where a layer has several matrices of the role.
    """

    layer: int
    row: int | None
    col: int | None
    expert: int | None = field(default=None)
    role: str = "W_down"
    component: str = ""

    def __str__(self) -> str:
        expert = "" if self.expert is None else f" expert {self.expert}"
        place = f" {self.component}" if self.component else ""
        return f"layer {self.layer}{place}{expert} [{_index(self.row)}, {_index(self.col)}]"


def _index(value: int | None) -> str:
    return ":" if value is None else str(value)


@dataclass(frozen=True, eq=False)
class Projection:
    """An MLP output projection of one layer: a linear module, or a container of stacked experts.

    component: path below the layer; name: path in the model. parameter: the live tensor. layout: "linear" (out, in),
    "conv1d" (in, out), "experts" (E, out, in), "experts_transposed" (E, in, out) or "experts_flat" (E * in, out).
    container: for stacked experts, the module that routes tokens to them; else the linear module itself. expert: set
    where each expert has a module of its own.
    """

    layer: int
    component: str
    name: str
    parameter_name: str
    parameter: torch.nn.Parameter
    layout: str
    container: torch.nn.Module
    n_experts: int | None = None
    expert: int | None = None
    shared_expert: bool = False

    def matrix(self, expert: int | None = None) -> torch.Tensor:
        """The logical (out, in) view of the weights, of one expert where they are stacked."""
        weight = self.parameter.data
        match self.layout:
            case "linear":
                return weight
            case "conv1d":
                return weight.T
            case "experts":
                return weight[expert]
            case "experts_transposed":
                return weight[expert].T
            case "experts_flat":
                return weight.view(self.n_experts, -1, weight.shape[1])[expert].T
            case layout:
                raise ValueError(layout)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Logical (rows, cols)."""
        return tuple(self.matrix(None if self.n_experts is None else 0).shape)

    @property
    def stacked(self) -> bool:
        return self.n_experts is not None

    def coordinate(self, row: int | None, col: int | None, expert: int | None = None) -> Coordinate:
        """The coordinate of a weight of this projection."""
        return Coordinate(self.layer, row, col, self.expert if expert is None else expert, "W_down", self.component)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What can be reached in a live causal language model.

    layers: the modules of the residual stream in order. projections: MLP output projections in order of layers.
    """

    model: torch.nn.Module
    layers_path: str
    layers: list[torch.nn.Module]
    projections: list[Projection]

    @property
    def d_model(self) -> int:
        return self.model.get_input_embeddings().weight.shape[1]

    @property
    def context(self) -> int | None:
        """The longest sequence that the model takes, where its configuration says."""
        configuration = self.model.config.get_text_config()
        for name in ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length"):
            value = getattr(configuration, name, None)
            if isinstance(value, int) and value > 0:
                return value
        return None

    def projection(self, coordinate: Coordinate) -> Projection:
        """The projection that a W_down coordinate lies in; AtlasError where there is none or more than one."""
        found = [
            projection
            for projection in self.projections
            if projection.layer == coordinate.layer
            and coordinate.component in ("", projection.component)
            and (projection.stacked or projection.expert == coordinate.expert)
            and (coordinate.expert is not None or not projection.stacked)
        ]
        if len(found) == 1:
            return found[0]
        choices = [p.component for p in self.projections if p.layer == coordinate.layer]
        problem = "no MLP output projection" if not found else "more than one MLP output projection"
        raise AtlasError(
            f"{problem} at {coordinate}",
            where=type(self.model).__name__,
            remedy=f"components of layer {coordinate.layer}: {', '.join(choices) or 'none'}",
        )


def anatomy(model: torch.nn.Module) -> Anatomy:
    """Find the layers and MLP output projections of a live model.

    Raises AtlasError for a model with no MLP output projection (such as Mamba) and for quantized modules, whose
    weights cannot be read or set one by one.
    """
    path, layers = find_layers(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    projections = [
        projection
        for index, layer in enumerate(layers)
        for projection in _projections(index, f"{path}.{index}", layer, names)
    ]
    if not projections:
        raise AtlasError(
            f"{type(model).__name__} has no MLP output projection",
            where=path,
            remedy="super weights are weights of MLP output projections: switch off super_weights for this model",
        )
    return Anatomy(model, path, layers, projections)


def find_layers(model: torch.nn.Module) -> tuple[str, list[torch.nn.Module]]:
    """Return the path and the modules of the residual stream's layers: the outermost list of the configured length."""
    configuration = model.config.get_text_config()
    depth = next(
        (
            getattr(configuration, name)
            for name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
            if isinstance(getattr(configuration, name, None), int)
        ),
        None,
    )
    lists = [
        (name, list(module))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    ]
    text = [(name, layers) for name, layers in lists if not re.search("vision|visual|audio|encoder_blocks", name)]
    if not text:
        raise AtlasError(
            f"the layers of {type(model).__name__} were not found: no list of {depth} modules",
            remedy="this architecture keeps its layers in an unknown way; switch off the analyses that run it",
        )
    return min(text, key=lambda item: item[0].count("."))


def _projections(index: int, prefix: str, layer: torch.nn.Module, names: dict[int, str]) -> list[Projection]:
    found = []
    for component, module in layer.named_modules():
        if NOT_MLP.search(component):
            continue
        stacked = _stacked(component, module, prefix)
        if stacked is not None:
            parameter, layout, n_experts, container = stacked
            container_name = component.rpartition(".")[0] if container == "parent" else component
            found.append(
                Projection(
                    index,
                    component,
                    f"{prefix}.{component}",
                    names[id(parameter)],
                    parameter,
                    layout,
                    layer.get_submodule(container_name),
                    n_experts=n_experts,
                )
            )
        elif OUTPUT_PROJECTION.search(component) and _is_linear(component, module, prefix):
            listed = LISTED_EXPERT.search(component)
            found.append(
                Projection(
                    index,
                    component,
                    f"{prefix}.{component}",
                    names[id(module.weight)],
                    module.weight,
                    "conv1d" if type(module).__name__ == "Conv1D" else "linear",
                    module,
                    expert=int(listed[2]) if listed else None,
                    shared_expert=bool(SHARED.search(component)),
                )
            )
    return found


def _stacked(component: str, module: torch.nn.Module, prefix: str) -> tuple[torch.nn.Parameter, str, int, str] | None:
    """(parameter, layout, number of experts, which module routes) of a module that holds stacked experts."""
    own = dict(module.named_parameters(recurse=False))
    if any(re.match(r"(gate_up|down)_proj(_blocks|_packed|_scale|_weight_scale)", name) for name in _tensors(module)):
        raise _quantized(module, f"{prefix}.{component}")
    down = own.get("down_proj")
    if down is not None and down.ndim == 3:
        found = down, _orientation(module, own), down.shape[0], "self"
    elif down is None and {"w1", "v1", "w2"} <= own.keys():
        found = own["w2"], "experts_flat", module.moe_num_experts, "parent"
    elif own.get("weight") is not None and own["weight"].ndim == 3 and OUTPUT_PROJECTION.search(component):
        found = own["weight"], "experts", own["weight"].shape[0], "parent"
    else:
        return None
    if any(parameter.dtype not in EDITABLE for parameter in own.values() if parameter.ndim > 1):
        # Their codes would pass for weights.
        raise _quantized(module, f"{prefix}.{component}")
    return found


def _tensors(module: torch.nn.Module) -> list[str]:
    """Names of the parameters and buffers that a module itself holds."""
    held = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return [name for name, _ in held]


def _orientation(module: torch.nn.Module, own: dict[str, torch.nn.Parameter]) -> str:
    """Whether stacked experts are (E, out, in) or (E, in, out), read off the matrix that feeds them."""
    declared = getattr(module, "is_transposed", None)
    if declared is None:
        into = own.get("gate_up_proj", own.get("up_proj"))
        down = own["down_proj"]
        # The matrix before is (E, k * in, out) where this one is (E, out, in); transposed, (E, out, k * in).
        declared = into is not None and into.shape[1] == down.shape[2] and into.shape[2] != down.shape[1]
        if into is not None and into.shape[1] == into.shape[2] == down.shape[1] == down.shape[2]:
            raise AtlasError(f"the orientation of {type(module).__name__} cannot be told from square matrices")
    return "experts_transposed" if declared else "experts"


def _is_linear(component: str, module: torch.nn.Module, prefix: str) -> bool:
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.ndim == 2 and weight.dtype in EDITABLE:
        return True
    if weight is None and not any("qweight" in name or "packed" in name for name, _ in module.named_buffers()):
        return False
    raise _quantized(module, f"{prefix}.{component}")


def _quantized(module: torch.nn.Module, where: str) -> AtlasError:
    return AtlasError(
        f"{type(module).__name__} is quantized: its weights cannot be read or set one by one",
        where=where,
        remedy="take the model's unquantized checkpoint",
    )
