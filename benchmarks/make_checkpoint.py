"""Make a Llama-shaped checkpoint of random weights of any size, for timing: sharded safetensors and a config.json.

python benchmarks/make_checkpoint.py FOLDER --gigabytes 8
"""

import json
import math
from pathlib import Path
from typing import Literal

import cyclopts
import torch

BITS = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_POOL = 1 << 22  # values drawn once per tensor; the rest of the tensor repeats them from other starting points


def main(
    folder: Path,
    *,
    gigabytes: float = 1.0,
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
    shard_gigabytes: float = 0.5,
    vocabulary: int | None = None,
    seed: int = 0,
) -> None:
    """Write a checkpoint of about so many gigabytes (1e9 bytes), one tensor in memory at a time.

    The shape follows the size: the larger, the wider and the deeper. The same arguments give the same bytes.
    """
    config = shape_for(gigabytes * 1e9 / getattr(torch, dtype).itemsize, vocabulary)
    shapes = tensor_shapes(config)
    shards = grouped(shapes, getattr(torch, dtype).itemsize, shard_gigabytes * 1e9)
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    weight_map = {}
    for number, names in enumerate(shards, start=1):
        shard = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_shard(folder / shard, {name: shapes[name] for name in names}, getattr(torch, dtype), generator)
        weight_map |= dict.fromkeys(names, shard)
    total = sum(math.prod(shape) for shape in shapes.values()) * getattr(torch, dtype).itemsize
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (folder / "config.json").write_text(json.dumps({**config, "dtype": dtype}, indent=2))
    print(f"{folder}: {len(shapes)} tensors in {len(shards)} shards, {total / 1e9:.2f} GB")


def shape_for(parameters: float, vocabulary: int | None) -> dict:
    """A Llama configuration with about so many parameters: the width grows with their cube root."""
    d_model = max(64, round((parameters * 10) ** (1 / 3) / 64) * 64)
    head_dim = 64 if d_model < 2048 else 128
    n_heads = d_model // head_dim
    n_kv_heads = max(
        divisor for divisor in range(1, n_heads + 1) if n_heads % divisor == 0 and divisor * 4 <= max(n_heads, 4)
    )
    d_ff = round(d_model * 8 / 3 / 64) * 64
    vocabulary = vocabulary or min(32_000, max(256, int(parameters / 10 / d_model)))
    per_layer = 2 * d_model * d_model + 2 * d_model * n_kv_heads * head_dim + 3 * d_model * d_ff
    layers = max(1, round((parameters - 2 * vocabulary * d_model) / per_layer))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": d_model,
        "intermediate_size": d_ff,
        "num_hidden_layers": layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocabulary,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
    }


def tensor_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes as they lie on disk, (out, in)."""
    d_model, d_ff, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    q, kv = (config[key] * config["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    shapes = {"model.embed_tokens.weight": (vocabulary, d_model)}
    for layer in range(config["num_hidden_layers"]):
        layer_shapes = {
            "input_layernorm": (d_model,),
            "self_attn.q_proj": (q, d_model),
            "self_attn.k_proj": (kv, d_model),
            "self_attn.v_proj": (kv, d_model),
            "self_attn.o_proj": (d_model, q),
            "post_attention_layernorm": (d_model,),
            "mlp.gate_proj": (d_ff, d_model),
            "mlp.up_proj": (d_ff, d_model),
            "mlp.down_proj": (d_model, d_ff),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in layer_shapes.items()}
    return {**shapes, "model.norm.weight": (d_model,), "lm_head.weight": (vocabulary, d_model)}


def grouped(shapes: dict[str, tuple[int, ...]], itemsize: int, most: float) -> list[list[str]]:
    """Split the names, in order, into shards of at most `most` bytes; a larger tensor has a shard of its own."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        nbytes = math.prod(shape) * itemsize
        if shards[-1] and size + nbytes > most:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
    return shards


def write_shard(path: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, generator: torch.Generator) -> None:
    """Write one safetensors file, tensor after tensor; safetensors' own writer wants all of them in memory."""
    header, position = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        end = position + math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": BITS[str(dtype).removeprefix("torch.")],
            "shape": shape,
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            file.write(random_values(shape, dtype, generator).view(torch.uint8).numpy())


def random_values(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Flat values: ones for a norm, else normal with standard deviation 0.02."""
    size = math.prod(shape)
    if len(shape) == 1:
        return torch.ones(size, dtype=dtype)
    pool = (torch.randn(min(size, _POOL), generator=generator) * 0.02).to(dtype)
    values = torch.empty(size, dtype=dtype)
    for begin in range(0, size, len(pool)):
        shift = int(torch.randint(len(pool), (1,), generator=generator)) if begin else 0
        piece = values[begin : begin + len(pool)]
        piece.copy_(pool.roll(shift)[: len(piece)])
    return values


if __name__ == "__main__":
    cyclopts.run(main)
