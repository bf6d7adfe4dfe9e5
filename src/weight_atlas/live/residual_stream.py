"""The residual stream of one window after every stage of a live model: embedding, layers, final norm."""

from typing import Any

import torch

from weight_atlas.errors import NotApplicable, finite
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.memory import out_of_memory_explained


@torch.no_grad()
def residual_stages(live: Anatomy, ids: torch.Tensor) -> list[torch.Tensor]:
    """Run the model on ids (1, length); return (length, d_model) for the embedding, each layer and the final norm.

    The last is what the head is given; it is left out where that is the last layer's output, or of another shape.
    Raises AtlasError where a number is not finite, and NotApplicable for layers that pass on something else than one
    stream.
    """
    stages: list[torch.Tensor] = []

    def enter(module: torch.nn.Module, inputs: tuple, keywords: dict) -> None:
        stages.append(residual_output(inputs[0] if inputs else keywords["hidden_states"]).detach()[0])

    def leave(module: torch.nn.Module, inputs: tuple, output: Any) -> None:
        stages.append(residual_output(output).detach()[0])

    hooks = [live.layers[0].register_forward_pre_hook(enter, with_kwargs=True)]
    hooks += [layer.register_forward_hook(leave) for layer in live.layers]
    read: list[torch.Tensor] = []
    head = live.model.get_output_embeddings()
    hooks.append(head.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].detach())))
    try:
        with out_of_memory_explained(f"a forward pass of {ids.shape[1]} tokens"):
            live.head.run(ids)
    finally:
        for hook in hooks:
            hook.remove()
    if read and read[0].shape[-2:] == stages[-1].shape and not torch.equal(read[0].view_as(stages[-1]), stages[-1]):
        stages.append(read[0].view_as(stages[-1]))
    for number, stage in enumerate(stages):
        finite(float(stage.abs().max()), "the embedding" if not number else f"{live.layers_path}.{number - 1}")
    return stages


def residual_output(output: Any) -> torch.Tensor:
    """The residual stream (n, length, d_model) in what a layer returns; AtlasError for another kind of stream."""
    stream = output[0] if isinstance(output, tuple | list) else output
    if stream.ndim != 3:
        raise NotApplicable(
            f"the layers pass on a tensor of shape {tuple(stream.shape)}, not one residual stream",
            remedy="families with several streams side by side (Gemma 3n) are not supported: switch off super_weights, "
            "super_activations, massive_activations and expert_routing for this model",
        )
    return stream
