"""Quantize all matrices of a live model's layers while a block lasts, and measure the error of doing so."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import matrix_at
from weight_atlas.live.parts import EDITABLE, Part
from weight_atlas.quantization.quantizers import Scheme, bits_per_weight, error_of, quantized


def layer_matrices(live: Anatomy, which: str = "all") -> Iterator[tuple[int, str, torch.Tensor]]:
    """Yield (layer, name, view) of weight matrices in the layers, as live logical (out, in) views.

    which: "all": attention and MLP, each expert's apart, no embeddings, heads, norms or routers; "W_down": the MLP
    output projections alone, in which super weights lie.
    """
    if which == "W_down":
        yield from _output_projections(live)
        return
    for index in range(len(live.layers)):
        for name, module, part in linear_modules(live, index):
            view = module.get_parameter("weight").data
            yield index, name, view.T if part is not None and part.selection.transposed else view
        for projection in [p for p in live.projections if p.layer == index and p.stacked]:
            for expert in projection.experts:
                for role in (Role.W_GATE, Role.W_UP, Role.W_DOWN):
                    if (part := projection.part(role, expert)) is not None:
                        yield index, f"{projection.name}.{expert}.{role}", part.view()


def linear_modules(live: Anatomy, index: int) -> Iterator[tuple[str, torch.nn.Module, Part | None]]:
    """Yield (name, module, part) of a layer's modules that hold one matrix each: no embeddings, norms or routers.

    part: the first that lies in the matrix, if the family's table knows it.
    """
    for name, module in live.layers[index].named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.nn.Parameter) or weight.ndim != 2 or isinstance(module, torch.nn.Embedding):
            continue
        part = live.first_part.get(id(weight))
        # Routers decide by small differences and are a vanishing share of the weights: quantizers leave them alone.
        if part is None or part.role is not Role.W_ROUTER:
            yield f"{live.layers_path}.{index}.{name}", module, part


def _output_projections(live: Anatomy) -> Iterator[tuple[int, str, torch.Tensor]]:
    for projection in live.projections:
        if projection.stacked:
            for expert in projection.experts:
                yield projection.layer, f"{projection.name}.{expert}.W_down", projection.matrix(expert)
        else:
            yield projection.layer, projection.name, projection.matrix()


@contextmanager
def quantized_layers(
    live: Anatomy, scheme: Scheme, spared: Sequence[Coordinate] = (), which: str = "all"
) -> Iterator[None]:
    """Quantize layer matrices (see layer_matrices) for the length of the block, then put the stored bits back.

    spared: weights that keep their value in 16 bits (see sixteen_bits). The stored weights wait in the host's memory.
    """
    stored: list[tuple[torch.Tensor, torch.Tensor]] = []
    kept = [(matrix_at(live, place), place, sixteen_bits(_value(live, place))) for place in spared]
    try:
        with torch.no_grad():
            for _, name, view in layer_matrices(live, which):
                check_editable(name, view)
                stored.append((view, view.to("cpu", copy=True)))
                view.copy_(quantized(view, scheme))
            for matrix, place, value in kept:
                matrix[place.cell] = value
        yield
    finally:
        with torch.no_grad():
            for view, original in stored:
                view.copy_(original)


def sixteen_bits(weight: torch.Tensor) -> torch.Tensor:
    """A weight as it is kept beside the quantized ones: in its own type if that has 16 bits, else in float16.

    A value beyond the range of float16 is kept in bfloat16. Returns the type given.
    """
    if weight.dtype.itemsize <= 2:
        return weight.clone()
    half = weight.to(torch.float16)
    return (half if torch.isfinite(half) else weight.to(torch.bfloat16)).to(weight.dtype)


def weight_errors(live: Anatomy, scheme: Scheme, spared: Sequence[Coordinate] = (), which: str = "all") -> pd.DataFrame:
    """The error of a scheme in every layer matrix, as the model holds it: layer, name, bits and errors (see error_of).

    A model in 16 bits rounds what quantization gives once more, and that is what it computes with.
    """
    rows = []
    places = [(matrix_at(live, place).data_ptr(), place) for place in spared]
    for layer, name, view in layer_matrices(live, which):
        approximation = quantized(view, scheme).to(view.dtype)
        for pointer, place in places:
            if pointer == view.data_ptr():
                approximation[place.cell] = sixteen_bits(view[place.cell])
        errors = error_of(view, approximation)
        bits = bits_per_weight((view.shape[0], view.shape[1]), scheme)
        rows.append({"layer": layer, "name": name, "bits": bits, **errors})
    return pd.DataFrame(rows)


def _value(live: Anatomy, place: Coordinate) -> torch.Tensor:
    return matrix_at(live, place)[place.cell]


def check_editable(name: str, view: torch.Tensor) -> None:
    """Raise AtlasError for a matrix that cannot be written to: not in memory, or quantized."""
    if view.device.type == "meta" or view.dtype not in EDITABLE:
        state = "offloaded from memory" if view.device.type == "meta" else f"quantized already ({view.dtype})"
        raise AtlasError(
            f"the weights are {state}", where=name, remedy="give the step memory for the whole, unquantized model"
        )
