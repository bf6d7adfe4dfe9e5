"""The harness's way to turn texts into tokens, without a model's weights."""

from typing import Any

import torch

from weight_atlas.evaluation.harness import Harness
from weight_atlas.lm.load import causal_configuration


def encoder(checkpoint: Any, tokenizer: Any, *, trust_remote_code: bool = False) -> Harness:
    """A harness model that encodes as the checkpoint's model does, and knows its context; it cannot score."""
    from transformers import AutoModelForCausalLM

    configuration = causal_configuration(checkpoint, trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(configuration, trust_remote_code=trust_remote_code)
    return Harness(model, tokenizer)
