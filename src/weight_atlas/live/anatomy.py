"""The live model's layers and MLP output projections, whatever its family calls them.

What each live parameter is stands in the family's table (see parts). Every weight is presented in the logical layout
(out, in) of nn.Linear, as a view of the live parameter, so that writing to it edits the model.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.roles import Role
from weight_atlas.live.foreign_code import guessed_parts
from weight_atlas.live.head import Head, head_of
from weight_atlas.live.language_model import LanguageModel
from weight_atlas.live.parts import EDITABLE, Part, Unexplained, live_architecture, parts_by_table

SHARED_EXPERT = "shared_expert"
# Components of a layer whose W_down writes into the residual stream; others have matrices of these roles inside norms.
FEED_FORWARD = ("", SHARED_EXPERT)


# The layer of what belongs to none: embeddings, the final norm, the head.
OUTSIDE = -1
# The role of the bias that belongs to a matrix is the matrix's with this behind it.
BIAS = ".bias"


@dataclass(frozen=True, order=True)
class Coordinate:
    """One weight, or a slice of them, in the logical layout (out, in) of a matrix.

    layer: OUTSIDE for what belongs to none. row: output channel; col: input channel (of W_down: the neuron; of a bias
    or norm 0); None takes all of that axis. component: the module's path below its layer, needed only where a layer has
    several matrices of the role.
    """

    layer: int
    row: int | None
    col: int | None
    expert: int | None = field(default=None)
    role: str = "W_down"
    component: str = ""

    def __str__(self) -> str:
        expert = "" if self.expert is None else f" expert {self.expert}"
        # The component of W_gate and W_up is the output projection's.
        named = self.component if self.role not in ("W_gate", "W_up") else ""
        place = named if self.role == "W_down" else f"{self.role} {named}"
        where = "" if self.outside else f"layer {self.layer} "
        index = _index(self.row) if self.vector else f"{_index(self.row)}, {_index(self.col)}"
        return f"{f'{where}{place}'.strip()}{expert} [{index}]"

    @property
    def outside(self) -> bool:
        """Whether it belongs to no layer."""
        return self.layer == OUTSIDE

    @property
    def vector(self) -> bool:
        """Whether it lies in a bias or in the gains of a norm."""
        return self.role == Role.NORM or self.role.endswith(BIAS)

    @property
    def cell(self) -> tuple[int, int]:
        """(row, col) of a single weight; an AtlasError for a slice of them."""
        if self.row is None or self.col is None:
            raise AtlasError(f"{self} is more than one weight", remedy="give its row and its column")
        return self.row, self.col


def _index(value: int | None) -> str:
    return ":" if value is None else str(value)


@dataclass(frozen=True, eq=False)
class Projection:
    """An MLP output projection of one layer: a linear module, or a container of stacked experts.

    component: path below the layer; name: path in the model. parts: the matrix, or that of each stacked expert. into:
    role of each matrix (W_gate, W_up) and bias that belongs to it -> its parts, as many. holder: the module that holds
    the weights. container: for stacked experts, the module that routes tokens to them; else the linear module itself.
    """

    layer: int
    component: str
    name: str
    parts: tuple[Part, ...]
    holder: torch.nn.Module
    container: torch.nn.Module
    into: dict[tuple[Role, Role | None], tuple[Part, ...]]

    def matrix(self, expert: int | None = None) -> torch.Tensor:
        """The logical (out, in) view of the weights, of one expert where they are stacked."""
        return self._one(self.parts, expert).view()

    def part(self, role: Role, expert: int | None = None) -> Part | None:
        """The part of a role (W_down, W_gate, W_up) of this MLP or of one of its stacked experts, if it has one."""
        parts = self.parts if role == Role.W_DOWN else self.into.get((role, None))
        return self._one(parts, expert) if parts else None

    def bias(self, role: Role, expert: int | None = None) -> torch.Tensor | None:
        """The bias of such a part, (out,), if it has one."""
        parts = self.into.get((Role.BIAS, role))
        return self._one(parts, expert).view() if parts else None

    def _one(self, parts: tuple[Part, ...], expert: int | None) -> Part:
        return parts[expert or 0] if self.stacked else parts[0]

    @property
    def parameter(self) -> torch.nn.Parameter:
        """The live tensor."""
        return self.parts[0].parameter

    @property
    def parameter_name(self) -> str:
        return self.parts[0].name

    @property
    def expert(self) -> int | None:
        """Which expert it is, where each has a module of its own."""
        return None if self.stacked else self.parts[0].expert

    @property
    def n_experts(self) -> int | None:
        """How many experts are stacked in it; None where none are."""
        return len(self.parts) if self.stacked else None

    @property
    def experts(self) -> Sequence[int]:
        """Which routed experts are in it: all that are stacked, or the one that it belongs to; none in a dense MLP."""
        if self.stacked:
            return range(len(self.parts))
        return () if self.parts[0].expert is None else (self.parts[0].expert,)

    @property
    def stacked(self) -> bool:
        return self.parts[0].stacked

    @property
    def shared_expert(self) -> bool:
        return self.parts[0].component == SHARED_EXPERT

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Logical (rows, cols)."""
        rows, cols = self.matrix().shape
        return rows, cols

    def coordinate(self, row: int | None, col: int | None, expert: int | None = None) -> Coordinate:
        """The coordinate of a weight of this projection."""
        return Coordinate(self.layer, row, col, self.expert if expert is None else expert, "W_down", self.component)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What can be reached in a live causal language model.

    layers: the modules of the residual stream in order. projections: MLP output projections in order of layers. parts:
    what each parameter is, in the model's order. head: what makes logits of the last hidden states.
    """

    model: LanguageModel
    layers_path: str
    layers: list[torch.nn.Module]
    projections: list[Projection]
    parts: tuple[Part, ...]
    architecture: Architecture
    head: Head

    @property
    def d_model(self) -> int:
        return self.model.get_input_embeddings().weight.shape[1]

    @property
    def context(self) -> int | None:
        """The longest sequence that the model takes, where its configuration says."""
        return self.architecture.context

    def activation_bytes(self, length: int) -> int:
        """About what the activations of one window of `length` tokens take at the widest point of a layer.

        The residual stream, queries, keys, values and what attention adds are counted as eight times d_model, an MLP's
        neurons three times (gate, up and their product) for each expert that a token is sent to; attention scores only
        where the implementation keeps them.
        """
        routed = self.architecture.quantities.of("n_experts_per_token") or 1
        cols = max(projection.shape[1] * (routed if projection.experts else 1) for projection in self.projections)
        width = 8 * self.d_model + 3 * cols
        if getattr(self.model.config, "_attn_implementation", None) == "eager":
            width += 3 * length * (self.architecture.quantities.of("n_heads", 0) or 1)
        return length * width * self.projections[0].parameter.element_size()

    def norm_at(self, layer: int, place: str) -> torch.nn.Module | None:
        """The norm of a layer that stands at a place (of NORM_PLACES), if it has one."""
        parts = self.parts_of(Role.NORM, layer, component=place)
        return self.model.get_submodule(parts[0].module) if parts else None

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

    def parts_of(
        self, role: Role | str, layer: int | None = None, expert: int | None = None, component: str | None = ""
    ) -> list[Part]:
        """The parts of a role in a layer, by component of the family's table; None takes those of every component."""
        found = self._by_place.get((role, layer, expert), [])
        return [part for part in found if component in (None, part.component)]

    @cached_property
    def _by_place(self) -> dict[tuple, list[Part]]:
        places = defaultdict(list)
        for part in self.parts:
            if part.stack != "other":
                places[part.role, part.layer, part.expert].append(part)
        return places

    @cached_property
    def first_part(self) -> dict[int, Part]:
        """id of a parameter -> the first part in it: its layout is that of the whole."""
        return {id(part.parameter): part for part in reversed(self.parts)}


def anatomy(model: LanguageModel, family: str | None = None) -> Anatomy:
    """Find the layers and MLP output projections of a live model.

    family: its table, where the model's own configuration does not tell it. Raises NotApplicable for a model with no
    MLP output projection (such as Mamba) and for quantized modules, whose weights cannot be read or set one by one.
    """
    _refuse_quantized(model)
    architecture, parts = _explained(model, family)
    has_one = any(part.role is Role.W_DOWN and part.stack != "other" for part in parts)
    path = _layers_path(model, parts) if has_one else ""
    projections = _projections(model, path, parts) if has_one else []
    if not projections:
        raise NotApplicable(
            f"{type(model).__name__} has no MLP output projection",
            where=path or None,
            remedy="super weights are weights of MLP output projections: switch off super_weights for this model",
        )
    layers = model.get_submodule(path)
    if not isinstance(layers, torch.nn.ModuleList | torch.nn.Sequential):
        raise _without_layers(model)
    head = head_of(model, list(layers))
    return Anatomy(model, path, list(layers), projections, tuple(parts), architecture, head)


def _explained(model: LanguageModel, family: str | None) -> tuple[Architecture, list[Part]]:
    """The architecture of a model, and its parts: by the family's table, else guessed from their names."""
    architecture = Architecture.common(model.config.to_dict())
    try:
        architecture = live_architecture(model, family)
        return architecture, parts_by_table(model, architecture)
    except Unexplained as error:
        print(f"{type(model).__name__}: the parts of the model are guessed from their names: {error.what}", flush=True)
        return architecture, guessed_parts(model)


def _refuse_quantized(model: LanguageModel) -> None:
    """Raise NotApplicable where codes would pass for weights, or stand in their place."""
    tables = (torch.int64, torch.bool)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and parameter.dtype not in (*EDITABLE, *tables):
            raise _quantized(model, name)
    for name, _ in model.named_buffers():
        # Names that the formats have: GPTQ and AWQ, compressed-tensors.
        if name.endswith(("qweight", "weight_packed")):
            raise _quantized(model, name)


def _quantized(model: LanguageModel, name: str) -> NotApplicable:
    module = name.rpartition(".")[0]
    return NotApplicable(
        f"{type(model.get_submodule(module)).__name__} is quantized: its weights cannot be read or set one by one",
        where=module,
        remedy="take the model's unquantized checkpoint",
    )


def _layers_path(model: LanguageModel, parts: Iterable[Part]) -> str:
    """The path of the list that holds the layers, told by where the layer's number stands in the parameters' names."""
    inside = [part for part in parts if part.layer is not None and part.stack != "other"]
    stack = "decoder" if any(part.stack == "decoder" for part in inside) else "encoder"
    names = [part.name.split(f".{part.layer}.", 1) for part in inside if part.stack == stack]
    counted = Counter(split[0] for split in names if len(split) == 2)
    if not counted:
        raise _without_layers(model)
    return counted.most_common(1)[0][0]


def _without_layers(model: LanguageModel) -> NotApplicable:
    return NotApplicable(
        f"the layers of {type(model).__name__} were not found",
        remedy="this architecture keeps its layers in an unknown way; switch off the analyses that run it",
    )


def _projections(model: LanguageModel, path: str, parts: Iterable[Part]) -> list[Projection]:
    below: dict[tuple, dict[tuple, list[Part]]] = defaultdict(lambda: defaultdict(list))
    for part in parts:
        if part.layer is not None and part.component in FEED_FORWARD and part.name.startswith(f"{path}.{part.layer}."):
            key = part.layer, part.component, None if part.stacked else part.expert, part.stacked
            below[key][part.role, part.of_role].append(part)
    found = []
    for (layer, *_), roles in below.items():
        by_parameter: dict[str, list[Part]] = defaultdict(list)
        for part in roles.get((Role.W_DOWN, None), ()):
            by_parameter[part.name].append(part)
        for down in by_parameter.values():
            found.append(_projection(model, layer, f"{path}.{layer}.", tuple(down), roles))
    order = {name: number for number, (name, _) in enumerate(model.named_parameters(remove_duplicate=False))}
    return sorted(found, key=lambda projection: (projection.layer, order[projection.parameter_name]))


def _projection(
    model: LanguageModel, layer: int, prefix: str, down: tuple[Part, ...], roles: dict[tuple, list[Part]]
) -> Projection:
    module = down[0].module
    wanted = [(Role.W_GATE, None), (Role.W_UP, None), *((Role.BIAS, r) for r in (Role.W_GATE, Role.W_UP, Role.W_DOWN))]
    into = {key: tuple(roles[key]) for key in wanted if len(roles.get(key, ())) == len(down)}
    up = into.get((Role.W_UP, None))
    # Experts that lie one after another along rows, or one matrix to a module, are fed by the module around them.
    around = down[0].stacked and (down[0].selection.by_rows or up is None or up[0].module != module)
    holder = model.get_submodule(module)
    container = model.get_submodule(module.rpartition(".")[0]) if around else holder
    return Projection(layer, module.removeprefix(prefix), module, down, holder, container, into)
