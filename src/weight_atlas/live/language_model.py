"""What this library uses of a live model: the type of transformers' causal language models, and of foreign ones."""

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
