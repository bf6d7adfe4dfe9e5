"""Tiny models that every reader takes, as bytes by their names, from which bad ones are made."""

import io
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

Files = dict[str, bytes]
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 16, "hidden_size": 8,
    "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "hidden_act": "silu", "dtype": "float32",
}  # fmt: skip
BLOCK = "model.layers.0"
SHAPES = {
    "model.embed_tokens.weight": (16, 8), f"{BLOCK}.self_attn.q_proj.weight": (8, 8),
    f"{BLOCK}.self_attn.k_proj.weight": (4, 8), f"{BLOCK}.self_attn.v_proj.weight": (4, 8),
    f"{BLOCK}.self_attn.o_proj.weight": (8, 8), f"{BLOCK}.mlp.gate_proj.weight": (12, 8),
    f"{BLOCK}.mlp.up_proj.weight": (12, 8), f"{BLOCK}.mlp.down_proj.weight": (8, 12),
    f"{BLOCK}.input_layernorm.weight": (8,), f"{BLOCK}.post_attention_layernorm.weight": (8,),
    "model.norm.weight": (8,), "lm_head.weight": (16, 8),
}  # fmt: skip


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


@cache
def _tensors() -> dict:
    import torch

    torch.manual_seed(0)
    return {name: torch.randn(shape) for name, shape in SHAPES.items()}


def as_safetensors(tensors: dict) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def as_pytorch(content: object) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def safetensors_model() -> Files:
    return {"config.json": as_json(CONFIG), "model.safetensors": as_safetensors(_tensors())}


def sharded_model() -> Files:
    tensors, names = _tensors(), list(SHAPES)
    shards = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    index = {"metadata": {}, "weight_map": {name: shard for shard, inside in shards.items() for name in inside}}
    files = {shard: as_safetensors({name: tensors[name] for name in inside}) for shard, inside in shards.items()}
    return {"config.json": as_json(CONFIG), "model.safetensors.index.json": as_json(index), **files}


def pytorch_model() -> Files:
    return {"config.json": as_json(CONFIG), "pytorch_model.bin": as_pytorch(_tensors())}


def gguf_model() -> Files:
    import gguf

    width = 32
    values = np.random.default_rng(0).standard_normal((16, width)).astype(np.float32)
    with TemporaryDirectory() as folder:
        writer = gguf.GGUFWriter(Path(folder) / "model.gguf", "llama")
        writer.add_block_count(1)
        writer.add_embedding_length(width)
        writer.add_head_count(4)
        writer.add_feed_forward_length(width)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_token_list([f"t{number}" for number in range(16)])
        square = values.repeat(2, axis=0)
        matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
        named = {"token_embd": values, **{f"blk.0.{name}": square for name in matrices}}
        for name, each in named.items():
            kind = gguf.GGMLQuantizationType.Q8_0 if "ffn" in name else gguf.GGMLQuantizationType.F16
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(each, kind), raw_dtype=kind)
        for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
            writer.add_tensor(f"{name}.weight", values[0])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return {"model.gguf": (Path(folder) / "model.gguf").read_bytes()}


def _quantized(settings: dict, packed: dict[str, dict]) -> Files:
    """The model with some weights in pieces; packed: name of the module -> its pieces."""
    tensors = {name: each for name, each in _tensors().items() if name.removesuffix(".weight") not in packed}
    for module, pieces in packed.items():
        tensors |= {f"{module}.{part}": piece for part, piece in pieces.items()}
    return {
        "config.json": as_json(CONFIG | {"quantization_config": settings}),
        "model.safetensors": as_safetensors(tensors),
    }


def fp8_model() -> Files:
    import torch

    up = {"weight": torch.randn(12, 8).to(torch.float8_e4m3fn), "weight_scale_inv": torch.rand(1, 1)}
    return _quantized({"quant_method": "fp8", "weight_block_size": [128, 128]}, {f"{BLOCK}.mlp.up_proj": up})


def gptq_model() -> Files:
    import torch

    torch.manual_seed(0)
    pieces = {
        "qweight": torch.randint(0, 1 << 30, (1, 8), dtype=torch.int32),
        "qzeros": torch.randint(0, 1 << 30, (1, 1), dtype=torch.int32),
        "scales": torch.rand(1, 8).half(),
        "g_idx": torch.zeros(8, dtype=torch.int32),
    }
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 8, "sym": False, "desc_act": False}
    return _quantized(settings, {f"{BLOCK}.self_attn.q_proj": pieces})


def nf4_model() -> Files:
    import torch

    state = {"quant_type": "nf4", "blocksize": 64, "shape": [12, 8], "dtype": "float32"}
    pieces = {
        "weight": torch.randint(0, 256, (48, 1), dtype=torch.uint8),
        "weight.absmax": torch.rand(2),
        "weight.quant_map": torch.linspace(-1, 1, 16),
        "weight.quant_state.bitsandbytes__nf4": torch.frombuffer(bytearray(as_json(state)), dtype=torch.uint8),
    }
    return _quantized({"quant_method": "bitsandbytes", "load_in_4bit": True}, {f"{BLOCK}.mlp.up_proj": pieces})


def compressed_model() -> Files:
    import torch

    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 8}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }
    pieces = {
        "weight_packed": torch.randint(0, 1 << 30, (12, 1), dtype=torch.int32),
        "weight_scale": torch.rand(12, 1),
        "weight_shape": torch.tensor([12, 8]),
    }
    return _quantized(settings, {f"{BLOCK}.mlp.up_proj": pieces})


def adapter() -> Files:
    import torch

    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "x",
        "fan_in_fan_out": False,
        "rank_pattern": {},
        "alpha_pattern": {"q_proj": 8},
        "use_rslora": False,
    }
    module = f"base_model.model.{BLOCK}.self_attn.q_proj"
    tensors = {f"{module}.lora_A.weight": torch.randn(2, 8), f"{module}.lora_B.weight": torch.randn(8, 2)}
    return {"adapter_config.json": as_json(config), "adapter_model.safetensors": as_safetensors(tensors)}


WORDS = ("the", "cat", "sat", "on", "a", "mat")


def tokenizer() -> Files:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train_from_iterator([" ".join(WORDS)] * 3, trainers.BpeTrainer(vocab_size=40, special_tokens=["<unk>", "<s>"]))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "unk_token": "<unk>",
        "added_tokens_decoder": {"0": {"content": "<unk>", "special": True}, "1": {"content": "<s>", "special": True}},
        "model_max_length": 32,
        "chat_template": "{{ messages[0].content }}",
    }
    return {
        "tokenizer.json": made.to_str().encode(),
        "tokenizer_config.json": as_json(settings),
        "special_tokens_map.json": as_json({"bos_token": "<s>", "unk_token": "<unk>"}),
    }


def sentencepiece() -> Files:
    import sentencepiece as library

    stream = io.BytesIO()
    texts = iter([" ".join(WORDS)] * 3)
    library.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=stream, vocab_size=24, hard_vocab_limit=False, minloglevel=2
    )
    return {"tokenizer.model": stream.getvalue()}


def live_model() -> Files:
    """A model with all that running it reads."""
    generation = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, "temperature": 0.7, "max_length": 20}
    return {**safetensors_model(), "generation_config.json": as_json(generation)}
