"""Run only the tail of a layer, after an MLP output projection; everything before it is replayed from a cached pass.

An edit of one weight of an MLP output projection adds (w' - w) x to the projection's output. Attention, norms and the
MLP's first matrices need not run again. What follows (a norm, the residual sum, a gate) runs for many variants at once.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from weight_atlas.live.anatomy import Anatomy, Coordinate, Projection
from weight_atlas.live.contributions import Reaching, reaching
from weight_atlas.live.language_model import forwards_replaced


@dataclass(frozen=True)
class LayerTail:
    """One layer's pass over a window, cached up to a projection's output.

    entry: the module whose output is the projection's (itself, or an MLP that returns it unchanged); shape: of that
    output. output: of the projection, (rows, d_model). before: modules that ran before the entry, with their outputs.
    inputs, keywords: the arguments of the projection's container.
    """

    projection: Projection
    entry: torch.nn.Module
    shape: torch.Size
    output: torch.Tensor
    before: dict[torch.nn.Module, Any]
    inputs: tuple
    keywords: dict
    _reaching: dict[int | None, Reaching] = field(default_factory=dict)

    def activations(self, place: Coordinate) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """For the tokens that reach a weight's neuron: rows of `output`, activations x in float32, factors on w x."""
        if place.expert not in self._reaching:
            self._reaching[place.expert] = reaching(self.projection, place.expert, self.inputs, self.keywords)
        rows, x, factor = self._reaching[place.expert]
        return rows, x[:, place.col].float(), factor

    @contextmanager
    def entered(self, outputs: torch.Tensor) -> Iterator[None]:
        """Let the layer, called with n copies of its stream, take `outputs` (n, rows, d_model) as the projection's."""
        n, length = len(outputs), len(self.output)
        shape = (n, *self.shape[1:]) if len(self.shape) == 3 else (n * length, self.shape[-1])
        replayed = {module: _copies(output, n) for module, output in self.before.items()}
        replayed[self.entry] = outputs.reshape(shape)
        with forwards_replaced({module: _always(output) for module, output in replayed.items()}):
            yield


@contextmanager
def kept_inside(live: Anatomy, projections: Iterable[Projection]) -> Iterator[dict[str, LayerTail]]:
    """Cache the next pass of the model over one window inside the layers of some projections, by their names.

    Nothing is cached for a layer that cannot be restarted after the projection (it calls a module twice, for example).
    """
    kept: dict[str, LayerTail] = {}
    by_layer: dict[int, list[Projection]] = {}
    for projection in projections:
        by_layer.setdefault(projection.layer, []).append(projection)
    hooks = []
    for number, own in by_layer.items():
        done: list[tuple[str, torch.nn.Module, Any, tuple, dict]] = []
        for name, module in live.layers[number].named_modules():
            if name:
                hooks.append(module.register_forward_hook(_note(done, name), with_kwargs=True))
        hooks.append(live.layers[number].register_forward_hook(_keep(kept, own, done)))
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _note(done: list, name: str):
    def note(module, inputs, keywords, output):
        done.append((name, module, output, inputs, keywords))

    return note


def _keep(kept: dict[str, LayerTail], projections: list[Projection], done: list):
    def keep(layer, inputs, output):
        for projection in projections:
            inside = _inside(projection, done)
            if inside is not None:
                kept[projection.name] = inside
        done.clear()

    return keep


def _inside(projection: Projection, done: list) -> LayerTail | None:
    """done: (name, module, output, inputs, keywords) of a layer's modules, in the order in which they ended."""
    ended = {id(module): place for place, (_, module, *_) in enumerate(done)}
    own_module = projection.expert is not None  # an expert with a module of its own is given some of the tokens
    if own_module or id(projection.container) not in ended or len(ended) < len(done):
        return None
    name, _, output, inputs, keywords = done[ended[id(projection.container)]]
    if not isinstance(output, torch.Tensor):
        return None
    rows = output.reshape(-1, output.shape[-1])
    entry = _entry(name, rows, done)
    place, (entry_name, module, shown, *_) = entry, done[entry]
    first = [each for each in done[:place] if not _within(each[0], entry_name) and not _within(entry_name, each[0])]
    before = {
        other: result
        for path, other, result, *_ in first
        if not any(_within(path, above) and path != above for above, *_ in first)
    }
    length = len(rows)
    if any(not _can_be_copied(each, length) for each in (*before.values(), shown)):
        return None
    return LayerTail(projection, module, shown.shape, rows, before, inputs, keywords)


def _entry(name: str, rows: torch.Tensor, done: list) -> int:
    """Index in `done` of the outermost module that returns the output of the module `name` unchanged."""
    ended = {path: place for place, (path, *_) in enumerate(done)}
    entry = ended[name]
    while "." in name:
        name = name.rpartition(".")[0]
        shown = done[ended[name]][2] if name in ended else None
        if not isinstance(shown, torch.Tensor) or shown.numel() != rows.numel():
            break
        if not torch.equal(shown.reshape(rows.shape), rows):
            break
        entry = ended[name]
    return entry


def _within(path: str, above: str) -> bool:
    return path == above or path.startswith(f"{above}.")


def _can_be_copied(output: Any, length: int) -> bool:
    if isinstance(output, tuple):
        return all(_can_be_copied(each, length) for each in output)
    return output is None or (isinstance(output, torch.Tensor) and (len(output) == 1 or len(output) == length))


def _copies(output: Any, n: int) -> Any:
    """A module's output for one window, repeated for n equal windows."""
    if isinstance(output, tuple):
        return tuple(_copies(each, n) for each in output)
    if output is None:
        return None
    # Repeated in memory: layers take views.
    return output.repeat(n, *(1 for _ in output.shape[1:]))


def _always(output: Any):
    return lambda *inputs, **keywords: output
