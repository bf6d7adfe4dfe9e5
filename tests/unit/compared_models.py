"""Small Llamas on disk, compared with each other and with adapters to them."""

import json
import shutil

import torch
from safetensors.torch import save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.comparison.measure import measured, share_of
from weight_atlas.comparison.sides import Side, Sides
from weight_atlas.comparison.summary import tables_of
from weight_atlas.comparison.vocabularies import spellings
from weight_atlas.families.inventory import inventory
from weight_atlas.settings.comparison import Comparison
from weight_atlas.settings.spectra import Tails

HEADS, HEAD_DIM, D_MODEL, D_FF, LAYERS, TOKENS = 4, 16, 64, 96, 2, 40
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": D_MODEL, "intermediate_size": D_FF,
    "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "head_dim": HEAD_DIM, "num_hidden_layers": LAYERS,
    "vocab_size": TOKENS, "tie_word_embeddings": False, "rms_norm_eps": 1e-5,
}  # fmt: skip
Q, UP, DOWN = "self_attn.q_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"


def name(layer, part):
    return f"model.layers.{layer}.{part}"


def weights(seed=0, layers=LAYERS, rows=TOKENS):
    """Weights of a small Llama in bfloat16, with spectra that fall as those of trained ones do."""
    random = torch.Generator().manual_seed(seed)

    def matrix(*shape):
        falling = torch.randn(shape[0], 8, generator=random) @ torch.randn(8, shape[1], generator=random) * 0.03
        return (torch.randn(shape, generator=random) * 0.05 + falling).bfloat16()

    found = {"model.embed_tokens.weight": matrix(rows, D_MODEL), "lm_head.weight": matrix(rows, D_MODEL)}
    found["model.norm.weight"] = torch.ones(D_MODEL).bfloat16()
    for layer in range(layers):
        for part in "qkvo":
            found[name(layer, f"self_attn.{part}_proj.weight")] = matrix(HEADS * HEAD_DIM, D_MODEL)
        for part, shape in (("gate", (D_FF, D_MODEL)), ("up", (D_FF, D_MODEL)), ("down", (D_MODEL, D_FF))):
            found[name(layer, f"mlp.{part}_proj.weight")] = matrix(*shape)
        for part in ("input_layernorm", "post_attention_layernorm"):
            found[name(layer, f"{part}.weight")] = torch.ones(D_MODEL).bfloat16()
    return found


def write(folder, tensors, tokens=None, *, allow_other=False, file="model.safetensors", **config):
    """One side of a comparison, whose files lie in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / file)
    own = config if file.startswith("adapter") else {**CONFIG, **config}
    (folder / file.replace("model.safetensors", "config.json")).write_text(json.dumps(own))
    if tokens is not None:
        vocabulary = {token: number for number, token in enumerate(tokens)}
        model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": tokens[0]}
        (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    return side(folder, allow_other=allow_other)


def side(folder, allow_other=False):
    checkpoint = Checkpoint.from_folder(folder)
    return Side(checkpoint, inventory(checkpoint, allow_other=allow_other), spellings(folder, False))


def tables(a, b, parts=1):
    sides, settings = Sides(a, b), Comparison(subspace=8)
    found = [
        measured(share_of(sides.pairs, part, parts), sides, settings, threads=1, memory_bytes=1 << 26)
        for part in range(1, parts + 1)
    ]
    return tables_of(sides, ("base", "other"), list(zip(*found, strict=True)), settings, Tails(bootstrap=0))


def said(made):
    return [finding["text"] for finding in made.summary["findings"]]


def changed(made):
    return made.table.loc[made.table["changed"] > 0, "id_a"].tolist()


def lora(tmp_path, scale=0.5, magnitudes=None, seed=20):
    """An adapter to two matrices of the base, and the merged matrices in float64."""
    random, tensors, merged = torch.Generator().manual_seed(seed), {}, {}
    for layer, part, shape in ((0, Q, (64, 64)), (1, DOWN, (D_MODEL, D_FF))):
        module = name(layer, part).removesuffix(".weight")
        up, down = torch.randn(shape[0], 4, generator=random) * 0.1, torch.randn(4, shape[1], generator=random) * 0.1
        tensors |= {f"base_model.model.{module}.lora_{key}.weight": value for key, value in (("A", down), ("B", up))}
        whole = weights()[name(layer, part)].double() + scale * up.double() @ down.double()
        if magnitudes:
            given = torch.rand(shape[0], generator=random) + 0.5
            tensors[f"base_model.model.{module}.lora_magnitude_vector"] = given
            whole *= (given.double() / whole.norm(dim=1))[:, None]
        merged[name(layer, part)] = whole
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 4 * scale, "use_dora": bool(magnitudes)}
    return write(tmp_path / f"adapter{seed}", tensors, file="adapter_model.safetensors", **settings), merged
