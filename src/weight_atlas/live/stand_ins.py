"""Modules whose forward is replaced while a block lasts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch


@contextmanager
def forwards_replaced(forwards: Mapping[torch.nn.Module, Callable[..., object]]) -> Iterator[None]:
    """Let each module call the function given for it instead of its own forward; hooks on the module still run."""
    own = {module: module.__dict__.get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, before in own.items():
            # accelerate puts a forward of its own on the instance; else the class's shows again.
            if before is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = before


@contextmanager
def layers_skipped(layers: list[torch.nn.Module], in_tuple: list[bool], last: torch.Tensor | None) -> Iterator[None]:
    """Let layers hand on the hidden states that they are given, and the last one hand on `last` where it is given.

    in_tuple: for each layer whether it returns its hidden states in a tuple.
    """

    def skipping(number: int) -> Callable[..., object]:
        def forward(*inputs, **keywords):
            given = inputs[0] if inputs else keywords["hidden_states"]
            output = last if last is not None and number == len(layers) - 1 else given
            return (output,) if in_tuple[number] else output

        return forward

    with forwards_replaced({layer: skipping(number) for number, layer in enumerate(layers)}):
        yield
