"""Decide which shortcuts reproduce the model's logits, by testing them on every matrix to be edited."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import Edit, change_of, edited
from weight_atlas.live.head import logits_at
from weight_atlas.live.layer_restart import LayerTrace, chain
from weight_atlas.live.matrices import MLP, part_at, slice_at
from weight_atlas.live.memory import is_out_of_memory
from weight_atlas.live.windows import Windows

Variant = tuple[Edit, ...]
# Tokens of a trial, and positions whose logits are compared.
TRIAL = 64
# Forward passes that the trials of one projection take, at most.
PASSES = 7
# Roles of the model as a whole, whatever layer a coordinate gives.
OF_THE_MODEL = ("W_E", "W_U")


@dataclass(frozen=True)
class Shortcuts:
    """Shortcuts that hold for some edits of a model; by default none: every variant takes a whole forward pass.

    carried: sites (see site_of) whose change reaches the layers above through the residual stream alone. added: the
    output projections among them whose layer can be restarted after the projection, with a changed weight's difference
    added to its output. shared: addresses of tensors that more than one layer reads.
    """

    carried: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    shared: frozenset[int] = frozenset()

    def takes(self, live: Anatomy, variant: Variant) -> bool:
        """Whether a variant can begin at the first layer that it edits, and saves work by it."""
        sound = all(
            site_of(live, edit.coordinate) in self.carried
            and _address(slice_at(live, edit.coordinate)) not in self.shared
            for edit in variant
        )
        return bool(variant) and sound and (first_layer(variant) > 0 or self.adds(live, variant))

    def adds(self, live: Anatomy, variant: Variant) -> bool:
        """Whether only the tail of a variant's layer, after the projection, has to be run."""
        return is_single(variant) and live.projection(variant[0].coordinate).name in self.added


def first_layer(variant: Variant) -> int:
    """The first layer that a variant edits."""
    return min(edit.coordinate.layer for edit in variant)


def is_single(variant: Sequence[Edit]) -> bool:
    """Whether a variant changes one weight of an output projection."""
    place = variant[0].coordinate
    return len(variant) == 1 and place.role == "W_down" and None not in (place.row, place.col)


def site_of(live: Anatomy, coordinate: Coordinate) -> str | None:
    """Where in its layer an edit takes effect: an MLP's output projection, or a parameter; None outside of layers."""
    if coordinate.outside or coordinate.role in OF_THE_MODEL:
        return None
    if coordinate.role in MLP:
        return live.projection(coordinate).name
    name = part_at(live, coordinate).name
    return name if name.startswith(f"{live.layers_path}.{coordinate.layer}.") else None


def _sites(live: Anatomy, variants: Iterable[Variant]) -> dict[str, Coordinate]:
    """The sites that some variants edit, each with the coordinate of one edit there."""
    places = [edit.coordinate for variant in variants for edit in variant]
    return {name: place for place in reversed(places) if (name := site_of(live, place)) is not None}


@torch.no_grad()
def shortcuts_of(live: Anatomy, ids: torch.Tensor, variants: Sequence[Variant]) -> Shortcuts:
    """Test the shortcuts on the sites that some variants edit.

    ids (1, length): a window. The lowest of these sites, whose change passes all layers above, takes a few forward
    passes over the whole window; the others over its first tokens if that test succeeds, else over all of it.
    """
    sites = _sites(live, variants)
    samples: dict[str, Edit] = {}
    for variant in variants:
        if is_single(variant):
            samples.setdefault(live.projection(variant[0].coordinate).name, variant[0])
    lowest = min(sites, key=lambda name: sites[name].layer, default=None)
    sound = lowest is not None and _tried(_carries, live, ids, sites[lowest])
    tried = ids[:, :TRIAL] if sound else ids
    carried = frozenset(
        name for name, place in sites.items() if (sound if name == lowest else _tried(_carries, live, tried, place))
    )
    added = frozenset(name for name, edit in samples.items() if name in carried and _tried(_adds, live, tried, edit))
    return Shortcuts(carried, added, _read_by_several(live))


def pays(live: Anatomy, windows: Windows, variants: Sequence[Variant], *, beside: int = 0) -> bool:
    """Whether restarts of some variants on some windows could save more than the tests of `shortcuts_of` cost.

    beside: passes over each window that are needed for the restarts only.
    """
    sites = _sites(live, variants)
    below = sum(max(0, first_layer(variant)) for variant in variants if variant) / len(live.layers)
    short = min(TRIAL, windows.ids.shape[1]) / windows.ids.shape[1]
    return len(windows) * (below - beside) > PASSES * (1 + short * (len(sites) - 1))


def _tried(trial: Callable[..., bool], *given: object) -> bool:
    """Whether a test succeeds. A layer may need what was not cached: the plain forward pass is then the only way."""
    try:
        return trial(*given)
    except (RuntimeError, TypeError, KeyError, IndexError, ValueError, AttributeError, AtlasError) as error:
        if is_out_of_memory(error) or is_out_of_memory(error.__cause__):
            raise
        return False


def _carries(live: Anatomy, ids: torch.Tensor, place: Coordinate) -> bool:
    """Whether a change at a place's site reaches the logits through the residual stream alone, in a batch too.

    The change is large: of an output projection a vector as large as the stream itself, of another matrix its sign.
    Every layer is run for the unchanged model as well, as it is for other variants in between: what layers hand on
    beside the stream (keys and values that later layers share, say) is then that of the wrong pass, and shows.
    """
    trace, layer = chain(live, ids), place.layer
    positions = torch.linspace(0, trace.ids.shape[1] - 1, min(TRIAL, trace.ids.shape[1], live.head.positions)).long()
    with _changed(live, place, trace):
        whole = logits_at(live.model, trace.ids, positions)[0]
        hidden = trace.layer(layer, trace.streams[layer].expand(2, -1, -1))
    dtype, whole = whole.dtype, whole.float()
    trace.layer(layer, trace.streams[layer])
    for number in range(layer + 1, len(live.layers)):
        hidden = trace.layer(number, hidden)
        trace.layer(number, trace.streams[number])
    tolerance = max(1e-4, 4 * torch.finfo(dtype).eps) * float(whole.abs().max())
    states = trace.states(hidden, positions)
    return all(bool((live.head.logits(each).float() - whole).abs().max() <= tolerance) for each in states)


def _changed(live: Anatomy, place: Coordinate, trace: LayerTrace) -> AbstractContextManager[None]:
    if place.role in MLP:
        size = float(trace.streams[place.layer + 1].float().square().mean().sqrt())
        return _shifted(live.projection(place).container, size)
    return edited(live, [Edit(replace(place, row=None, col=None), factor=-1.0)])


@contextmanager
def _shifted(module: torch.nn.Module, size: float) -> Iterator[None]:
    """Add a vector of that root mean square to every row of a module's output, with signs that no norm removes."""

    def shift(module, inputs, output):
        channels = torch.arange(output.shape[-1], device=output.device)
        return output + torch.where(channels % 3 == 0, -size, size).to(output)

    handle = module.register_forward_hook(shift)
    try:
        yield
    finally:
        handle.remove()


def _adds(live: Anatomy, ids: torch.Tensor, sample: Edit) -> bool:
    """Whether restarting a layer after a projection gives the same output as running it with an edited weight.

    Tested with a change ten times as large as the stream, which no rounding hides.
    """
    place = sample.coordinate
    projection = live.projection(place)
    trace = chain(live, ids, [projection])
    if projection.name not in trace.inside:
        return False
    inside, before = trace.inside[projection.name], trace.streams[place.layer + 1]
    rows, x, factor = inside.activations(place)
    if not x.any():
        return False
    large = Edit(place, offset=float(10 * before.abs().max() / x.abs().max()))
    outputs = inside.output.clone()
    outputs[rows, place.row] += (change_of(live, large) * x * factor).to(outputs)
    entered = trace.after(inside, outputs.expand(2, -1, -1)).float()
    with edited(live, [large]):
        whole = trace.layer(place.layer, trace.streams[place.layer]).float()
    tolerance = max(1e-4, 8 * torch.finfo(before.dtype).eps)
    return bool((entered - whole).abs().max() <= tolerance * whole.abs().max())


def _read_by_several(live: Anatomy) -> frozenset[int]:
    """Addresses of tensors that several layers read, or both a layer and a module outside of the layers."""
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
