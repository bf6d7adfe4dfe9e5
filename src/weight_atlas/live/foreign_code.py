"""What the parameters of a live model seem to be, by their names: for code that ships with a checkpoint.

Such code calls its modules as it likes, and no conversion mapping of transformers knows it. The names that published
models use are recognised here, and nowhere else.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.families.layouts import WHOLE, Selection
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.roles import Role
from weight_atlas.families.schema import COMMON, load_family
from weight_atlas.live.language_model import LanguageModel
from weight_atlas.live.parts import Part, lies_transposed

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
# Modules whose inner projections do not write what an MLP writes.
NOT_MLP = re.compile(r"(^|\.)(self_attn|self_attention|attention|attn|cross\w*|[a-z_]*norm|experts_router)(\.|$)")
INPUTS = {
    Role.W_GATE: re.compile(r"(^|\.)(gate_proj|w1|linear_gate)$"),
    Role.W_UP: re.compile(
        r"(^|\.)(up_proj|w3|fc1|c_fc|fc_in|dense_h_to_4h|lin1|key|0|layer_1|intermediate\.dense|ffn)$"
    ),
}
FUSED = re.compile(r"(^|\.)(gate_up_proj|input_linear|Wi)$")
ROUTER = re.compile(r"(^|\.)(gate|router|shared_expert_gate)$")
POST_MLP_NORM = re.compile(r"^post_(feedforward|mlp|ffw|ffn|ff|moe)_?(layer)?_?norm$")
LISTED_EXPERT = re.compile(r"(^|\.)experts\.(\d+)\.")
SHARED = re.compile(r"shared")
NOT_LANGUAGE = re.compile("vision|visual|audio|encoder_blocks")


@dataclass(frozen=True)
class _Place:
    """One layer: its number, its module, and the parameters' names by id."""

    number: int
    layer: torch.nn.Module
    names: dict[int, str]

    def part(
        self, role: Role, component: str, expert: int | None, parameter: torch.nn.Parameter,
        selection: Selection = WHOLE,
    ) -> Part:  # fmt: skip
        shared = "shared_expert" if SHARED.search(component) else ""
        stack = "other" if role is Role.OTHER else "decoder"
        return Part(role, shared, stack, self.number, expert, self.names[id(parameter)], parameter, selection)


def guessed_parts(model: LanguageModel) -> list[Part]:
    """Embeddings, routers, the matrices of MLPs and the norms after them; other matrices of the layers have no role."""
    parameters = {id(parameter): parameter for parameter in model.parameters()}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = []
    for role, module in ((Role.W_E, model.get_input_embeddings()), (Role.W_U, model.get_output_embeddings())):
        if module is not None and (key := id(module.weight)) in names:
            found.append(Part(role, "", "decoder", None, None, names[key], parameters[key]))
    for number, layer in enumerate(_layers(model)):
        found += _parts(_Place(number, layer, names))
    return found


def _layers(model: LanguageModel) -> list[torch.nn.Module]:
    """The modules of the residual stream's layers: the outermost list of the configured length."""
    depth = Quantities(load_family(COMMON), model.config.to_dict()).of("n_layers")
    lists = [
        (name, list(module))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth and not NOT_LANGUAGE.search(name)
    ]
    if not lists:
        raise NotApplicable(
            f"the layers of {type(model).__name__} were not found: no list of {depth} modules",
            remedy="this architecture keeps its layers in an unknown way; switch off the analyses that run it",
        )
    return min(lists, key=lambda item: item[0].count("."))[1]


def _parts(place: _Place) -> Iterator[Part]:
    for component, module in place.layer.named_modules():
        own = dict(module.named_parameters(recurse=False))
        weight, matrix, experts = own.get("weight"), _matrix(module), getattr(module, "moe_num_experts", None)
        inside = not NOT_MLP.search(component)
        if POST_MLP_NORM.match(component) and weight is not None:
            yield Part(Role.NORM, "post_mlp", "decoder", place.number, None, place.names[id(weight)], weight)
        elif ROUTER.search(component) and matrix is not None:
            yield place.part(Role.W_ROUTER, component, None, matrix)
        elif inside and "down_proj" in own and own["down_proj"].ndim == 3:
            yield from _stacked(place, component, module, own)
        elif inside and {"w1", "v1", "w2"} <= own.keys() and isinstance(experts, int):
            yield from _along_rows(place, component, experts, own)
        elif inside and matrix is not None and OUTPUT_PROJECTION.search(component):
            yield from _linear(place, component, matrix, _orientation(module))
        elif matrix is not None:
            yield place.part(Role.OTHER, component, None, matrix, _orientation(module))


def _linear(place: _Place, component: str, down: torch.nn.Parameter, lies: Selection) -> Iterator[Part]:
    listed = LISTED_EXPERT.search(component)
    expert = int(listed[2]) if listed else None
    yield place.part(Role.W_DOWN, component, expert, down, lies)
    cols = down.shape[0 if lies.transposed else 1]
    parent, _, _ = component.rpartition(".")
    linear = [
        (name, matrix, _orientation(module))
        for name, module in place.layer.named_modules()
        if (matrix := _matrix(module)) is not None
    ]
    near = [each for each in linear if each[0].startswith(parent)]
    # BERT and OPT keep the two projections apart: nothing but their names relates them.
    if not any(INPUTS[Role.W_UP].search(name) or FUSED.search(name) for name, *_ in near):
        near = linear
    for place_of, (role, pattern) in enumerate(INPUTS.items()):
        for name, matrix, oriented in near:
            rows = matrix.shape[1 if oriented.transposed else 0]
            if pattern.search(name) and rows == cols:
                yield place.part(role, component, expert, matrix, oriented)
                break
            if FUSED.search(name) and rows == 2 * cols:
                half = Selection(transposed=oriented.transposed, sizes=(cols, cols), piece=place_of)
                yield place.part(role, component, expert, matrix, half)
                break


def _matrix(module: torch.nn.Module) -> torch.nn.Parameter | None:
    """The weight of a module that holds a matrix."""
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return weight if weight is not None and weight.ndim == 2 else None


def _orientation(module: torch.nn.Module) -> Selection:
    return Selection(transposed=bool(lies_transposed(module)))


def _stacked(place: _Place, component: str, module: torch.nn.Module, own: dict[str, torch.nn.Parameter]):
    transposed, down = _transposed(module, own), own["down_proj"]
    experts, cols = len(down), down.shape[1 if transposed else 2]
    interleaved = not getattr(module, "is_concatenated", True)
    for expert in range(experts):
        whole = Selection(expert=expert, experts=experts, transposed=transposed)
        yield place.part(Role.W_DOWN, component, expert, down, whole)
        if "up_proj" in own:
            yield place.part(Role.W_UP, component, expert, own["up_proj"], whole)
        elif "gate_up_proj" in own:
            for piece, role in enumerate((Role.W_GATE, Role.W_UP)):
                groups, sizes = (cols, (1, 1)) if interleaved else (1, (cols, cols))
                half = Selection(expert, experts, transposed=transposed, groups=groups, sizes=sizes, piece=piece)
                yield place.part(role, component, expert, own["gate_up_proj"], half)


def _along_rows(place: _Place, component: str, experts: int, own: dict[str, torch.nn.Parameter]) -> Iterator[Part]:
    for role, name in ((Role.W_GATE, "w1"), (Role.W_UP, "v1"), (Role.W_DOWN, "w2")):
        for expert in range(experts):
            lies = Selection(expert=expert, experts=experts, by_rows=True, transposed=role is Role.W_DOWN)
            yield place.part(role, component, expert, own[name], lies)


def _transposed(module: torch.nn.Module, own: dict[str, torch.nn.Parameter]) -> bool:
    """Whether stacked experts are (E, in, out) and not (E, out, in), read off the matrix that feeds them."""
    declared = getattr(module, "is_transposed", None)
    if declared is not None:
        return declared
    into, down = own.get("gate_up_proj", own.get("up_proj")), own["down_proj"]
    if into is not None and into.shape[1] == into.shape[2] == down.shape[1] == down.shape[2]:
        raise AtlasError(f"the orientation of {type(module).__name__} cannot be told from square matrices")
    # The matrix before is (E, k * in, out) where this one is (E, out, in); transposed, (E, out, k * in).
    return into is not None and into.shape[1] == down.shape[2] and into.shape[2] != down.shape[1]
