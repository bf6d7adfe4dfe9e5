"""One backward pass over some windows: every parameter's gradient, handed on when it is whole and then dropped.

Beside the model there exist at one time the activations, the gradient of one layer, and that of the head while the head
is at its turn (until the end, where it is tied to the embedding). Where the activations of all layers would take more
than they may, each layer keeps its input alone and is run again on the way back, which costs one more forward pass
(Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from weight_atlas.errors import AtlasError, NotApplicable, first_line
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.language_model import forwards_replaced, input_device
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.windows import Windows

# A parameter and the gradient of the mean nll, in nats per token, with respect to it; both of its shape.
Visit = Callable[[torch.nn.Parameter, torch.Tensor], None]


@dataclass(frozen=True)
class Backward:
    """A finished backward pass. nll: nats per token over `tokens` scored tokens. rerun: whether layers ran twice."""

    nll: float
    tokens: int
    rerun: bool


def visit_gradients(live: Anatomy, windows: Windows, visit: Visit, *, memory: int) -> Backward:
    """Hand every parameter that takes part in the prediction to `visit`, with its gradient, once.

    The gradient is that of the mean negative log-likelihood of all scored tokens. A tied parameter comes once, with the
    sum over its uses. memory: bytes that the activations of all layers may take together before layers are run twice.
    Raises AtlasError where the loss is no number, NotApplicable where the model cannot be differentiated.
    """
    parameters = [each for each in live.model.parameters() if each.is_floating_point()]
    if any(each.is_meta for each in parameters):
        raise AtlasError(
            "weights are offloaded from memory: they have no gradient",
            where=type(live.model).__name__,
            remedy="give the step more GPUs, or memory for the whole model",
        )
    length = windows.ids.shape[1]
    rerun = len(live.layers) * len(windows) * live.activation_bytes(length) > memory
    with (
        out_of_memory_explained(f"a backward pass over {tuple(windows.ids.shape)} tokens"),
        _differentiated(live),
        _visited(parameters, visit) as done,
    ):
        states = _states(live, windows, rerun)
        nll, slope = _through_head(live, windows, states.detach(), done)
        torch.autograd.backward(states, slope)
        for each in parameters:
            if each.grad is not None:  # of a head that shares its weights with what took no part
                done(each, each.grad)
    return Backward(nll, int(windows.scored.sum()), rerun)


@contextmanager
def _differentiated(live: Anatomy) -> Iterator[None]:
    try:
        with torch.enable_grad():
            yield
    except RuntimeError as error:  # NotImplementedError, of an operation without a backward pass, is one
        # Any other fault is this library's own, and must not pass for a property of the model.
        if not isinstance(error, NotImplementedError) and "derivative for" not in str(error):
            raise
        raise NotApplicable(
            f"{type(live.model).__name__} cannot be differentiated: {first_line(error)}",
            remedy="switch off weight_attribution for this model",
        ) from error


@contextmanager
def _visited(parameters: list[torch.nn.Parameter], visit: Visit) -> Iterator[Visit]:
    """Visit each parameter once its gradient is whole, and drop that gradient; yields the same for use by hand."""

    @torch.no_grad()
    def done(parameter: torch.nn.Parameter, gradient: torch.Tensor) -> None:
        parameter.grad = None
        visit(parameter, gradient)

    wanted = [each.requires_grad for each in parameters]
    hooks = []
    try:
        for each in parameters:
            each.requires_grad_(True)
            hooks.append(each.register_post_accumulate_grad_hook(lambda this: done(this, this.grad)))
        yield done
    finally:
        for hook in hooks:
            hook.remove()
        for each, before in zip(parameters, wanted, strict=True):
            each.requires_grad_(before)
            each.grad = None


def _states(live: Anatomy, windows: Windows, rerun: bool) -> torch.Tensor:
    """The inputs of the head for all tokens, (n, length, d_model), with the graph behind them; or the logits."""
    ids = windows.ids.to(input_device(live.model))
    with ExitStack() as stack:
        if rerun:
            stack.enter_context(forwards_replaced({layer: _again(layer.forward) for layer in live.layers}))
        if not live.head.chunked:
            return live.model(input_ids=ids, use_cache=False).logits
        given = stack.enter_context(live.head.stopped())
        live.model(input_ids=ids, use_cache=False)
    (states,) = given
    return states


def _again(forward: Callable[..., object]) -> Callable[..., object]:
    """A layer's forward that keeps its inputs only, and runs again when its gradient is asked for."""

    def checkpointed(*inputs: object, **keywords: Any) -> object:
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **keywords)

    return checkpointed


def _through_head(live: Anatomy, windows: Windows, states: torch.Tensor, done: Visit) -> tuple[float, torch.Tensor]:
    """The mean nll, and its gradient with respect to the inputs of the head, of their shape.

    The head's own parameters are visited; where they are tied to others their gradient waits to be added to.
    """
    window, position = windows.scored.nonzero(as_tuple=True)
    places = window.to(states.device), (position - 1).to(states.device)
    targets = windows.ids[window, position].to(states.device)
    before, slope, total = states[places], torch.zeros_like(states), 0.0
    own = list(live.model.get_output_embeddings().parameters()) if live.head.chunked else []
    gradients: list[torch.Tensor | None] = [None] * len(own)
    pieces = []
    for start in range(0, len(targets), live.head.positions):
        part = slice(start, start + live.head.positions)
        inputs = before[part].requires_grad_()
        logits = live.head.differentiable_logits(inputs).float()
        loss = torch.nn.functional.cross_entropy(logits, targets[part].to(logits.device), reduction="sum")
        piece, *heads = torch.autograd.grad(loss / len(targets), [inputs, *own], allow_unused=True)
        pieces.append(piece)
        gradients = [_sum(*each) for each in zip(gradients, heads, strict=True)]
        total += float(loss.detach())
    if not total < float("inf"):
        raise AtlasError(
            "the model's loss is not a finite number",
            where=type(live.model).__name__,
            remedy="compute in float32 (dtype: float32), and look for NaN in the weight statistics",
        )
    slope[places] = torch.cat(pieces)
    names = [id(each) for _, each in live.model.named_parameters(remove_duplicate=False)]
    for parameter, gradient in zip(own, gradients, strict=True):
        if gradient is not None and names.count(id(parameter)) > 1:
            parameter.grad = gradient
        elif gradient is not None:
            done(parameter, gradient)
    return total / len(targets), slope


def _sum(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one.add_(other)
