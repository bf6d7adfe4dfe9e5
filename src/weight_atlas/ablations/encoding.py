"""The harness's way to turn texts into tokens, without a model's weights."""

from typing import Any

import torch

from weight_atlas.ablations.harness import Harness
from weight_atlas.live.model_class import causal_class


def encoder(checkpoint: Any, tokenizer: Any, *, trust_remote_code: bool) -> Harness:
    """A harness model that encodes as the checkpoint's model does, and knows its context; it cannot score."""
    model_class, configuration = causal_class(checkpoint, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model: Any = model_class(configuration)
    return Harness(model, tokenizer)
