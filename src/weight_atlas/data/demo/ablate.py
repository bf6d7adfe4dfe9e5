"""Measure what the bundled model's card says: perplexity on held-out text, weights removed, scaled or quantized.

python -m weight_atlas.data.demo.ablate [FOLDER]
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from cyclopts import App
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

from weight_atlas.data.demo.planting import CHANNEL, LAYER, NEURON
from weight_atlas.data.demo.train import sequences
from weight_atlas.interventions.quantized_layers import quantized_layers
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.quantization.quantizers import Scheme
from weight_atlas.tokens.python_docs import python_docs

SEQUENCES = 64
SCALES = (0, 0.1, 0.25, 0.5, 0.8, 1.5, 2, 3)
FORMATS = ("int8", "int4", "int3")
DEVIATIONS = 8  # where weights are clipped if the super weight is spared, as by default in quantization_ablation

app = App(help=__doc__)


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, data: torch.Tensor) -> float:
    """exp of the mean negative log-likelihood per token; data: (n, length) token ids."""
    losses = []
    for batch in data.split(16):
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1]
        losses.append(cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none").double())
    return math.exp(torch.cat(losses).mean().item())


@contextmanager
def scaled(weights: list[torch.Tensor], places: torch.Tensor, factor: float) -> Iterator[None]:
    """Multiply weights by a factor, and restore them afterwards; places: positions in all weights, flat, one by one."""
    ends = torch.tensor([weight.numel() for weight in weights]).cumsum(0)
    saved = [weight.detach().clone() for weight in weights]
    for weight, end in zip(weights, ends, strict=True):
        here = places[(places < end) & (places >= end - weight.numel())]
        weight.data.view(-1)[here - (end - weight.numel())] *= factor
    try:
        yield
    finally:
        for weight, values in zip(weights, saved, strict=True):
            weight.data.copy_(values)


@app.default
def main(folder: Path = Path(__file__).parent / "model") -> None:
    """Print the table."""
    torch.set_num_threads(1)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    everything = sequences(tokenizer, python_docs("test").text.tolist())
    data = everything[:SEQUENCES]
    matrices = [parameter for name, parameter in model.named_parameters() if "proj.weight" in name]
    down = model.model.layers[LAYER].mlp.down_proj.weight
    place = torch.tensor([CHANNEL * down.shape[1] + NEURON])
    others = down.abs().flatten().argsort(descending=True)
    others = others[others != place]
    with scaled([down], place, 0):
        largest = torch.cat([matrix.abs().flatten() for matrix in matrices]).argsort(descending=True)

    def show(what: str, weights: list[torch.Tensor], places: torch.Tensor, factor: float = 0) -> None:
        with scaled(weights, places, factor):
            print(f"{what}: {perplexity(model, data):.2f}")

    print(f"super weight {down[CHANNEL, NEURON].item():.4f}, next {down.flatten()[others[0]].item():.4f}")
    print(f"baseline, all {len(everything)} sequences: {perplexity(model, everything):.2f}")
    print(f"baseline: {perplexity(model, data):.2f}; without the start token: {perplexity(model, data[:, 1:]):.4g}")
    for factor in SCALES:
        show(f"super weight x {factor}", [down], place, factor)
    for count in (1, 100, 1000):
        show(f"the {count} next largest of its matrix x 0", [down], others[:count])
    for count in (1, 100, 1000):
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            show(f"{count} random weights x 0", matrices, torch.randperm(len(largest), generator=generator)[:count])
    show("the 500 largest others of all matrices x 0", matrices, largest[:500])
    live, spared = anatomy(model), [Coordinate(LAYER, CHANNEL, NEURON)]
    for number_format in FORMATS:
        for which in ("all", "W_down"):
            with quantized_layers(live, Scheme(number_format), (), which):
                plain = perplexity(model, data)
            with quantized_layers(live, Scheme(number_format, clip=DEVIATIONS), spared, which):
                print(f"{number_format} per tensor, {which}: {plain:.2f}, sparing: {perplexity(model, data):.2f}")


if __name__ == "__main__":
    app()
