"""The type of a live model, one of transformers or a foreign one, and modules of it replaced while a block lasts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:

    class LanguageModel(torch.nn.Module):
        """A causal language model: its configuration, its embedding and its head; called with ids, it gives logits."""

        config: "Configuration"
        device: torch.device
        dtype: torch.dtype

        def get_input_embeddings(self) -> torch.nn.Embedding: ...

        def get_output_embeddings(self) -> torch.nn.Linear: ...

else:
    LanguageModel = torch.nn.Module  # no base class of them all has these attributes


class Configuration(Protocol):
    """The configuration of a live model; of one that also sees or hears, get_text_config() is its language part's."""

    model_type: str
    name_or_path: str

    def to_dict(self) -> dict[str, Any]: ...

    def get_text_config(self) -> "Configuration": ...


def input_device(model: LanguageModel) -> torch.device:
    """Where token ids must lie, for a model on one device or spread over several."""
    return model.get_input_embeddings().weight.device


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
