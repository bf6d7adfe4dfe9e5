"""The head of a model, applied to a few positions at a time, so that the logits of a whole batch never exist.

With a vocabulary of 262,144 tokens the float32 logits of one window of 2,048 tokens take 2 GB, and each function of
them as much again. Here a forward pass ends before the head and keeps the head's inputs, d_model numbers a position.
The head is then applied to LOGITS / V positions at a time, and what is asked of the logits is computed of even fewer.
What a family does to the logits after its head (a softcap, a scale) is done by the model's own code.

Whether this gives the model's own logits is tested when a model is opened. Where it does not, as for code without a
module for its head, the model's own forward pass makes all logits of a batch, and batches are smaller.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.live.language_model import LanguageModel, forwards_replaced, input_device, layers_skipped
from weight_atlas.live.memory import COMPARED, LOGITS, is_out_of_memory

# Tokens of the vocabulary in one product on a CPU.
BLOCK = 1 << 14
# Tokens of the trial.
TRIAL = 8
# What the trial multiplies logits by to see whether a softcap, which leaves small ones as they are, follows the head.
LARGE = 1000.0
# What a forward pass may raise that is stopped before the head, or of a model that is built in another way.
UNFIT = (AtlasError, AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, eq=False)
class Head:
    """A live model's head. layers: the modules of the residual stream.

    in_tuple: for each layer whether it returns its hidden states in a tuple. chunked: whether the head can be applied
    apart from the forward pass. bare: whether nothing follows it.
    """

    model: LanguageModel
    layers: list[torch.nn.Module]
    in_tuple: list[bool]
    chunked: bool
    bare: bool = False

    @property
    def vocabulary(self) -> int:
        """The number of logits at a position."""
        return self.model.get_output_embeddings().weight.shape[0]

    @property
    def positions(self) -> int:
        """Positions whose logits exist at one time."""
        return max(1, LOGITS // self.vocabulary)

    @torch.no_grad()
    def states(self, ids: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """Run the model on ids (n, length); return the inputs of its head at positions, (n, len(positions), d_model).

        Returns logits, (n, len(positions), V), where the head cannot be applied by itself: `chunks` takes either.
        """
        ids = ids.to(input_device(self.model))
        if not self.chunked:
            return logits_at(self.model, ids, positions)
        with self.stopped() as given:
            self.model(input_ids=ids, use_cache=False)
        (states,) = given
        return states if positions is None else states[:, positions.to(states.device)]

    def chunks(self, states: torch.Tensor) -> Iterator[tuple[int, slice, torch.Tensor]]:
        """Yield (number, part, logits): logits (m, V) at a part of the positions of states[number], all in order.

        states: (n, positions, d_model) as `states` gives them. The parts are small: functions of their logits may take
        several times their memory.
        """
        few = max(1, COMPARED // self.vocabulary)
        for number, whole, logits in self.products(states):
            for start in range(0, max(1, len(logits)), few):
                part = logits[start : start + few]
                yield number, slice(whole.start + start, whole.start + start + len(part)), part

    def products(self, states: torch.Tensor, held: int = 1) -> Iterator[tuple[int, slice, torch.Tensor]]:
        """The same in parts as large as one application of the head makes them.

        held: how many such parts the caller has in memory at a time. Several numbers share one product where their
        logits are few enough.
        """
        count, rows = states.shape[1], max(1, self.positions // held)
        together = max(1, rows // max(1, count))
        for first in range(0, len(states), together):
            some = states[first : first + together]
            for start in range(0, max(1, count), rows):
                part = some[:, start : start + rows]
                for number, logits in enumerate(self.logits(part.flatten(0, 1)).unflatten(0, part.shape[:2]), first):
                    yield number, slice(start, start + part.shape[1]), logits

    @torch.no_grad()
    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """The model's logits (m, V) from inputs of its head, (m, d_model)."""
        return self.differentiable_logits(states)

    def differentiable_logits(self, states: torch.Tensor) -> torch.Tensor:
        """The same, with a gradient where one is asked for."""
        if not self.chunked:
            return states
        output = _output(self.model.get_output_embeddings(), states)
        return output if self.bare else self._finished(output)

    @torch.no_grad()
    def run(self, ids: torch.Tensor, **options: object) -> object:
        """Run the model on ids (n, length) for the sake of its hooks; its output is returned without logits."""
        ids = ids.to(input_device(self.model))
        if not self.chunked:
            return _last_only(self.model, ids, **options)
        with self.stopped():
            return self.model(input_ids=ids, use_cache=False, **options)

    @contextmanager
    def stopped(self) -> Iterator[list[torch.Tensor]]:
        """Collect the inputs of the head instead of applying it, for as long as the block lasts."""
        given: list[torch.Tensor] = []

        def forward(states: torch.Tensor) -> torch.Tensor:
            given.append(states)
            return states[..., :1]

        with forwards_replaced({self.model.get_output_embeddings(): forward}):
            yield given

    def _finished(self, logits: torch.Tensor) -> torch.Tensor:
        """The model's logits from its head's output, (m, V): what the family does after the head."""
        head = self.model.get_output_embeddings()
        one = torch.zeros(1, 1, dtype=torch.int64, device=input_device(self.model))
        with (
            layers_skipped(self.layers, self.in_tuple, None),
            forwards_replaced({head: lambda states: logits[None]}),
        ):
            return self.model(input_ids=one, use_cache=False).logits[0]


def _output(head: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
    """The head's output (m, V) for inputs (m, d_model).

    On a CPU a product of many rows may first copy all of the head's weights. In blocks of the vocabulary it copies few,
    and is faster.
    """
    changed = type(head) is not torch.nn.Linear or "forward" in vars(head) or head._forward_hooks
    # What is written into blocks has no gradient.
    if changed or torch.is_grad_enabled() or states.device.type != "cpu" or head.weight.device.type != "cpu":
        return head(states)
    output = states.new_empty(len(states), len(head.weight))
    for start in range(0, len(head.weight), BLOCK):
        part = slice(start, start + BLOCK)
        torch.mm(states, head.weight[part].T, out=output[:, part])
    return output if head.bias is None else output.add_(head.bias)


@torch.no_grad()
def head_of(model: LanguageModel, layers: Sequence[torch.nn.Module]) -> Head:
    """The head of a model, tested on a few tokens against the model's logits. layers: of the residual stream."""
    whole = Head(model, list(layers), [False] * len(layers), chunked=False)
    try:
        head = _tried(model, list(layers))
    except UNFIT as error:
        if is_out_of_memory(error):
            raise
        head = whole
    if not head.chunked:
        print(f"{type(model).__name__} makes the logits of all positions at once: batches are smaller", flush=True)
    return head


def _tried(model: LanguageModel, layers: list[torch.nn.Module]) -> Head:
    in_tuple: list[bool] = []
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output: in_tuple.append(isinstance(output, tuple)))
        for layer in layers
    ]
    device = input_device(model)
    ids = torch.arange(TRIAL, device=device)[None] % model.get_input_embeddings().weight.shape[0]
    try:
        own = model(input_ids=ids, use_cache=False).logits[0]
    finally:
        for hook in hooks:
            hook.remove()
    head = Head(model, layers, in_tuple, chunked=len(in_tuple) == len(layers))
    states = head.states(ids)[0]
    large = LARGE * model.get_output_embeddings()(states)
    bare = _same(head._finished(large), large, 0.0)
    head = Head(model, layers, in_tuple, chunked=head.chunked, bare=bare)
    return head if _same(head.logits(states), own, 4 * torch.finfo(own.dtype).eps) else Head(model, layers, [], False)


def _same(logits: torch.Tensor, own: torch.Tensor, tolerance: float) -> bool:
    """Whether logits agree up to a tolerance relative to the largest; NaN agrees with NaN."""
    if logits.dtype != own.dtype or logits.shape != own.shape:
        return False
    logits, own = logits.float(), own.to(logits.device).float()
    largest = own.abs().nan_to_num(0, 0, 0).max()
    return torch.allclose(logits, own, rtol=0, atol=tolerance * float(largest), equal_nan=True)


@torch.no_grad()
def logits_at(model: LanguageModel, ids: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
    """The logits (n, len(positions), V) of the model's own forward pass at some positions of ids (n, length)."""
    ids = ids.to(input_device(model))
    if positions is None:
        return model(input_ids=ids, use_cache=False).logits
    if _keeps_some(model):
        return model(input_ids=ids, use_cache=False, logits_to_keep=positions.to(ids.device)).logits
    logits = model(input_ids=ids, use_cache=False).logits
    return logits[:, positions.to(logits.device)]


def _last_only(model: LanguageModel, ids: torch.Tensor, **options: object) -> object:
    if _keeps_some(model):
        options["logits_to_keep"] = 1
    return model(input_ids=ids, use_cache=False, **options)


def _keeps_some(model: LanguageModel) -> bool:
    return "logits_to_keep" in inspect.signature(model.forward).parameters
