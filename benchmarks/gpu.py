"""What a GPU takes for what runs on one, in seconds: spectra, forward passes, a scan of neurons.

    python benchmarks/gpu.py --d-model 4096 --layers 4

Random weights in bfloat16 of a Llama's shapes; the best of some runs, after one that is not counted. --device cpu
times the same on the CPU. On several GPUs the model spreads over all of them. Nothing is timed where there is no GPU.
"""

import time
from collections.abc import Callable

import cyclopts
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from weight_atlas.spectra.singular_values import spectra_of_equal_shapes

app = cyclopts.App(help=__doc__)


@app.default
def main(
    d_model: int = 4096, layers: int = 4, vocabulary: int = 128_256, device: str = "cuda", repeats: int = 3
) -> None:
    """Print a line for each case: seconds, and what that is a second."""
    if device == "cuda" and not torch.cuda.is_available():
        print("no GPU that this torch can use: nothing timed (--device cpu times the CPU)")
        return
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    print(f"{device}: {', '.join(names) or 'the CPU'}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    d_ff = 7 * d_model // 2
    for rows, columns in ((d_model, d_model), (d_ff, d_model), (vocabulary, d_model)):
        matrices = [torch.randn(rows, columns).bfloat16()]
        taken = seconds(lambda of=matrices: spectra_of_equal_shapes(of, device), repeats)
        say(f"spectrum of {rows} x {columns}", taken, f"{rows * columns / taken / 1e6:.1f} M weights/s")
    model = random_model(d_model, d_ff, layers, vocabulary, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for windows, length in ((1, 512), (16, 512)):
        ids = torch.randint(vocabulary, (windows, length), device=model.get_input_embeddings().weight.device)
        taken = seconds(lambda ids=ids: forward(model, ids), repeats)
        tokens = windows * length
        rate = f"{tokens / taken:.0f} tokens/s, {2 * parameters * tokens / taken / 1e12:.1f} TFLOP/s"
        say(f"forward pass of {windows} x {length} tokens, {parameters / 1e9:.2f} B parameters", taken, rate)


def random_model(d_model: int, d_ff: int, layers: int, vocabulary: int, device: str) -> LlamaForCausalLM:
    """A Llama with random weights, on all GPUs if there are several."""
    heads = max(1, d_model // 128)
    config = LlamaConfig(
        hidden_size=d_model,
        intermediate_size=d_ff,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        vocab_size=vocabulary,
        dtype=torch.bfloat16,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    if device == "cuda" and torch.cuda.device_count() > 1:
        from accelerate import dispatch_model, infer_auto_device_map

        split = infer_auto_device_map(model, no_split_module_classes=["LlamaDecoderLayer"])
        return dispatch_model(model, split)
    return model.to(device)


def forward(model: LlamaForCausalLM, ids: torch.Tensor) -> None:
    """One pass, with the logits of the last token of each window alone."""
    with torch.inference_mode():
        model(input_ids=ids, use_cache=False, logits_to_keep=1)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The least time of some runs, the device waited for."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            for number in range(torch.cuda.device_count()):
                torch.cuda.synchronize(number)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def say(what: str, taken: float, rate: str) -> None:
    """Print a line."""
    print(f"{what:65} {taken:9.4f} s   {rate}", flush=True)


if __name__ == "__main__":
    app()
