"""Which shortcuts give a model's own logits: found out by trying them on each projection that is to be edited."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from weight_atlas.lm.anatomy import Anatomy, Projection
from weight_atlas.lm.edits import Edit, edited, value_at
from weight_atlas.lm.load import is_out_of_memory
from weight_atlas.lm.places import matrix_at
from weight_atlas.lm.restart import Chain, chain, logits_at

Variant = tuple[Edit, ...]
# Tokens of a trial: what a model's layers pass to each other does not depend on the length.
TRIAL = 64
# Roles whose edits show in the output of their own layer, and nowhere else.
OF_A_LAYER = ("W_down", "W_gate", "W_up")


@dataclass(frozen=True)
class Route:
    """Shortcuts that hold for some edits of a model; by default none: every variant takes a whole forward pass.

    carried: names of projections of whose output the layers above learn through the residual stream alone. added: of
    these, those of which a change of one weight adds (w' - w) x[col] to its channel of the layer's output, and changes
    nothing else. shared: addresses of tensors that more than one layer reads.
    """

    carried: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    shared: frozenset[int] = frozenset()

    def takes(self, live: Anatomy, variant: Variant) -> bool:
        """Whether a variant can begin at the first layer that it edits, and saves work by it."""
        sound = all(
            edit.coordinate.role in OF_A_LAYER
            and live.projection(edit.coordinate).name in self.carried
            and _address(matrix_at(live, edit.coordinate)) not in self.shared
            for edit in variant
        )
        return bool(variant) and sound and (first_layer(variant) > 0 or self.adds(live, variant))

    def adds(self, live: Anatomy, variant: Variant) -> bool:
        """Whether a variant's layer need not be run: what it changes there is added."""
        return is_single(live, variant) and live.projection(variant[0].coordinate).name in self.added


def first_layer(variant: Variant) -> int:
    """The first layer that a variant edits."""
    return min(edit.coordinate.layer for edit in variant)


def is_single(live: Anatomy, variant: Variant) -> bool:
    """Whether a variant changes one weight of a linear output projection."""
    place = variant[0].coordinate
    single = len(variant) == 1 and place.role == "W_down" and None not in (place.row, place.col)
    return single and not live.projection(place).stacked


@torch.no_grad()
def route_of(live: Anatomy, ids: torch.Tensor, variants: Sequence[Variant]) -> Route:
    """Try the shortcuts on the projections that some variants edit.

    ids (1, length): a window; its first tokens serve. A few short forward passes for each such projection.
    """
    ids = ids[:, :TRIAL]
    edits = [edit for variant in variants for edit in variant if edit.coordinate.role in OF_A_LAYER]
    projections = {live.projection(edit.coordinate).name: live.projection(edit.coordinate) for edit in edits}
    samples: dict[str, Edit] = {}
    for variant in variants:
        if is_single(live, variant):
            samples.setdefault(live.projection(variant[0].coordinate).name, variant[0])
    try:
        way = chain(live, ids)
        carried = frozenset(name for name, projection in projections.items() if _carries(way, projection))
        added = frozenset(name for name, edit in samples.items() if name in carried and _adds(live, ids, edit))
    except (RuntimeError, TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        # Whatever a layer needs that was not kept: the plain forward pass has it.
        return Route()
    return Route(carried, added, _read_by_several(live))


def _carries(way: Chain, projection: Projection) -> bool:
    """Whether a change of a projection's output reaches the logits through the residual stream alone, in a batch too.

    The change is as large as the stream itself. Every layer is run for the unchanged model as well, as it is for other
    variants in between: what layers hand on beside the stream (keys and values that later layers share, say) is then
    that of the wrong pass, and shows.
    """
    live, layer = way.live, projection.layer
    size = float(way.streams[layer + 1].float().square().mean().sqrt())
    positions = torch.arange(way.ids.shape[1])
    with _shifted(projection.container, size):
        whole = logits_at(live, way.ids, positions).float()
        hidden = way.layer(layer, way.streams[layer].expand(2, -1, -1))
    way.layer(layer, way.streams[layer])
    for number in range(layer + 1, len(live.layers)):
        hidden = way.layer(number, hidden)
        way.layer(number, way.streams[number])
    logits = way.logits(hidden, positions)
    tolerance = max(1e-4, 4 * torch.finfo(logits.dtype).eps) * float(whole.abs().max())
    return bool((logits.float() - whole).abs().max() <= tolerance)


@contextmanager
def _shifted(module: torch.nn.Module, size: float) -> Iterator[None]:
    """Add a vector of that root mean square to every row that a module puts out: its signs mean nothing to a norm."""

    def shift(module, inputs, output):
        channels = torch.arange(output.shape[-1], device=output.device)
        return output + torch.where(channels % 3 == 0, -size, size).to(output)

    handle = module.register_forward_hook(shift)
    try:
        yield
    finally:
        handle.remove()


def _adds(live: Anatomy, ids: torch.Tensor, sample: Edit) -> bool:
    """Whether changing one weight adds (w' - w) x[col] to its channel of the layer's output, and nothing elsewhere.

    Tried with a change ten times as large as the stream, which no rounding hides: a norm would cut it down.
    """
    place = sample.coordinate
    way = chain(live, ids, [place])
    x, before = way.inputs[place], way.streams[place.layer + 1][0].float()
    if not x.any():
        return False
    large = Edit(place, offset=float(10 * before.abs().max() / x.abs().max()))
    weight = value_at(live, place)
    with edited(live, [large]):
        change = way.layer(place.layer, way.streams[place.layer])[0].float() - before
        expected = (value_at(live, place) - weight) * x.to(change.device)
    change[:, place.row] -= expected
    return bool(change.abs().max() <= 0.02 * expected.abs().max())


def _read_by_several(live: Anatomy) -> frozenset[int]:
    """Addresses of tensors that several layers read, or a layer and what stands outside of all layers."""
    inside = [{_address(parameter) for parameter in layer.parameters()} for layer in live.layers]
    outside = {_address(parameter) for parameter in _not_in_layers(live)}
    seen, several = set(outside), set()
    for addresses in inside:
        several |= seen & addresses
        seen |= addresses
    return frozenset(several)


def _not_in_layers(live: Anatomy) -> Iterable[torch.nn.Parameter]:
    prefix = f"{live.layers_path}."
    return (
        parameter
        for name, parameter in live.model.named_parameters(remove_duplicate=False)
        if not name.startswith(prefix)
    )


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
