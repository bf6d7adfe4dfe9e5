"""Tiny language models of every layout, with weights planted as super weights grow: found by one token, felt by all."""

import copy

import pytest
import torch
import transformers

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Anatomy, Coordinate, Projection
from weight_atlas.live.experts import routing_of
from weight_atlas.live.matrices import matrix_at
from weight_atlas.live.windows import Windows
from weight_atlas.super_weights.prompts import Prompts

D, FF, LAYERS, VOCABULARY = 64, 96, 4, 300
COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": D, "intermediate_size": FF, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 40}

# One configuration for each way in which families lay out their MLP.
LAYOUTS = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "phi3": {},
    "gemma2": {"query_pre_attn_scalar": 16},
    "olmo2": {},
    "cohere": {"logit_scale": 1.0},
    "gpt_neox": {},
    "gpt2": {"n_embd": D, "n_inner": FF, "n_layer": LAYERS, "n_head": 4, "n_positions": 128},
    "opt": {"ffn_dim": FF, "word_embed_proj_dim": D},
    "mixtral": EXPERTS,
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 56, "decoder_sparse_step": 1},
    "qwen3_moe": {**EXPERTS, "decoder_sparse_step": 1},
    "olmoe": EXPERTS,
    "granitemoe": EXPERTS,
    "phimoe": EXPERTS,
    "gpt_oss": EXPERTS,
    "llama4_text": {
        **EXPERTS, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 72,
    },
    "dbrx": {
        "d_model": D, "n_heads": 4, "n_layers": LAYERS, "max_seq_len": 128,
        "ffn_config": {"ffn_hidden_size": FF, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8},
    },
    "deepseek_v2": {
        **EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "q_lora_rank": None,
        "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "head_dim": 8,
        "num_key_value_heads": 4, "n_group": 1, "topk_group": 1, "topk_method": "greedy",
    },
    "deepseek_v3": {
        **EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "q_lora_rank": 24,
        "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "head_dim": 8,
        "num_key_value_heads": 4, "n_group": 1, "topk_group": 1,
    },
    "glm4_moe": {
        **EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1,
        "topk_group": 1,
    },
}  # fmt: skip


# One layout of each kind: what the others add is slow to try.
QUICK = {"llama", "phi3", "gemma2", "gpt2", "mixtral", "gpt_oss", "dbrx", "deepseek_v3"}


def layouts(*more: str, without: tuple[str, ...] = ()) -> list:
    """Parameters of a test of all layouts and of more names, quick ones and slow ones."""
    return [pytest.param(name, marks=marks_of(name)) for name in (*LAYOUTS, *more) if name not in without]


def marks_of(layout: str):
    return pytest.mark.slow if layout in LAYOUTS.keys() - QUICK else ()


# Experts that are modules of their own, as in code that ships with checkpoints: transformers has none left.
LISTED = "listed"


class ListedExperts(torch.nn.Module):
    """An MLP of four experts in a list, two a token, and a shared one."""

    def __init__(self, mlp: torch.nn.Module):
        super().__init__()
        self.gate = torch.nn.Linear(D, 4, bias=False)
        self.experts = torch.nn.ModuleList(copy.deepcopy(mlp) for _ in range(4))
        self.shared_experts = copy.deepcopy(mlp)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.02)

    def forward(self, hidden):
        rows = hidden.reshape(-1, D)
        weight, index = self.gate(rows).softmax(-1).topk(2)
        output = self.shared_experts(rows)
        for number, expert in enumerate(self.experts):
            token, slot = (index == number).nonzero(as_tuple=True)
            output = output.index_add(0, token, expert(rows[token]) * weight[token, slot][:, None])
        return output.view_as(hidden)


def _with_listed_experts(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    for layer in model.model.layers:
        layer.mlp = ListedExperts(layer.mlp)
    return model.requires_grad_(False)


def tiny(layout: str, seed: int = 0, sharp: bool = False, **changes) -> torch.nn.Module:
    """A randomly initialised float32 model of a layout. sharp: with logits large enough for definite predictions."""
    if layout == LISTED:
        return _with_listed_experts(tiny("llama", seed, sharp, **changes), seed)
    settings = {**COMMON, **LAYOUTS.get(layout, {}), **changes}
    if layout == "dbrx":
        settings = {key: value for key, value in settings.items() if key not in ("hidden_size", "intermediate_size")}
    configuration = transformers.AutoConfig.for_model(layout, **settings)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(configuration)
    if sharp and settings["tie_word_embeddings"]:
        model.model.norm.weight.data *= 40
    elif sharp:
        model.get_output_embeddings().weight.data *= 40
    return model.eval().requires_grad_(False)


def with_uneven_norms(layout: str, seed: int) -> torch.nn.Module:
    """A model whose norms are drawn, too, so that leaving one out shows."""
    model = tiny(layout, seed)
    for name, parameter in model.named_parameters():
        if "norm" in name or "ln_" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model


@torch.no_grad()
def plant(
    live: Anatomy, layer: int, row: int, col: int, *, component: str = "", token: int = 1, activation: float = 40.0,
    write: float = 300.0,
) -> Coordinate:  # fmt: skip
    """Make one neuron fire on a token at position 0, and one weight of its column write a massive activation.

    Returns the coordinate of that weight. The neuron's other output weights become tiny, so that its value goes
    through the one weight. Of stacked experts it is one that the router gives the token to.
    """
    projection = next(p for p in live.projections if p.layer == layer and component in ("", p.component))
    if projection.expert is not None:
        hidden, projection = _listed_input(live, projection, token)
        expert = projection.expert
    else:
        hidden, expert = mlp_input(live, projection, token)
    place = {"layer": layer, "expert": expert, "component": projection.component}
    up = matrix_at(live, Coordinate(row=None, col=None, role="W_up", **place))
    try:
        gate, each = matrix_at(live, Coordinate(row=None, col=None, role="W_gate", **place)), activation**0.5
        gate[col] = hidden * each / hidden.norm() ** 2
    except AtlasError:
        each = activation
    up[col] = hidden * each / hidden.norm() ** 2
    coordinate = projection.coordinate(row, col, expert)
    norm = live.norm_at(layer, "post_mlp")
    if norm is not None:
        # What this norm lets through is at most its gain times sqrt(d_model).
        norm.weight[row] = write / D**0.5
    down = matrix_at(live, coordinate)
    down[:, col] *= 0.01
    down[row, col] = write / activation
    return coordinate


@torch.no_grad()
def plant_in_attention(live: Anatomy, layer: int, row: int, write: float = 300.0) -> int:
    """Make one weight of a Llama's attention output write a massive activation for token 1; returns its column."""
    seen = []
    projection = live.layers[layer].self_attn.o_proj
    handle = projection.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0, 0].clone()))
    live.model(torch.tensor([[1, 5, 6]]))
    handle.remove()
    column = int(seen[0].abs().argmax())
    projection.weight[row, column] = write / seen[0][column]
    return column


@torch.no_grad()
def _listed_input(live: Anatomy, projection: Projection, token: int) -> tuple[torch.Tensor, Projection]:
    """What the experts of a layer see for a token at position 0, and the first of them that gets it."""
    seen = []
    experts = [p for p in live.projections if p.layer == projection.layer and p.expert is not None]
    block = live.layers[projection.layer].mlp
    handles = [block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].reshape(-1, D)[0]))]
    for each in experts:
        module = block.experts[each.expert]
        handles.append(
            module.register_forward_pre_hook(
                lambda module, inputs, each=each: seen.append(each) if (inputs[0] == seen[0]).all(-1).any() else None
            )
        )
    live.model(torch.tensor([[token, 5, 6]]))
    for handle in handles:
        handle.remove()
    return seen[0], seen[1]


@torch.no_grad()
def mlp_input(live: Anatomy, projection: Projection, token: int) -> tuple[torch.Tensor, int | None]:
    """What the first matrix of an MLP sees for a token at position 0, float32 (d_model,), and in which expert."""
    seen = []
    if projection.stacked:

        def look(module, inputs, keywords):
            routing = routing_of(projection, inputs, keywords)
            hidden = routing.hidden[0, 0] if routing.scaled else routing.hidden[0]
            seen.append((hidden.float(), int(routing.index[0, 0])))

        handle = projection.container.register_forward_pre_hook(look, with_kwargs=True)
    else:
        into = matrix_at(live, Coordinate(projection.layer, None, None, role="W_up", component=projection.component))
        address = into.untyped_storage().data_ptr()
        modules = [
            m for m in live.layers[projection.layer].modules() if isinstance(getattr(m, "weight", None), torch.Tensor)
        ]
        module = next(m for m in modules if m.weight.untyped_storage().data_ptr() == address)
        handle = module.register_forward_pre_hook(
            lambda module, inputs: seen.append((inputs[0].reshape(-1, inputs[0].shape[-1])[0].float(), None))
        )
    live.model(torch.tensor([[token, 5, 6]]))
    handle.remove()
    return seen[0]


@torch.no_grad()
def own_text(live: Anatomy, *, windows: int = 6, length: int = 24, token: int = 1, seed: int = 0) -> Windows:
    """Windows that begin with a token and go on as the model itself would most likely: any change makes them worse."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.cat(
        [torch.full((windows, 1), token), torch.randint(5, VOCABULARY, (windows, 3), generator=generator)], dim=1
    )
    while ids.shape[1] < length:
        ids = torch.cat([ids, live.model(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    scored = torch.ones(ids.shape, dtype=torch.bool)
    scored[:, :4] = False
    return Windows(ids, scored)


def random_prompts(n: int = 3, length: int = 10, token: int = 1, seed: int = 0) -> Prompts:
    """Prompts of random tokens after a start token, and the same without it."""
    generator = torch.Generator().manual_seed(seed)
    body = torch.randint(5, VOCABULARY, (n, length - 1), generator=generator)
    ids = torch.cat([torch.cat([torch.full((n, 1), token), body], 1), torch.nn.functional.pad(body, (0, 1))])
    valid = torch.ones(2 * n, length, dtype=torch.bool)
    valid[n:, -1] = False
    names = [[str(each) for each in row] for row in ids.tolist()]
    return Prompts(ids, valid, [True] * n + [False] * n, 2 * list(range(n)), names)


def word_tokenizer(*, bos: bool):
    """A tokenizer of whole words, ids from 5 on, that puts <s> (1) before a text or does not."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    vocabulary = {
        "<pad>": 0,
        "<s>": 1,
        "</s>": 2,
        "<unk>": 3,
        "\n\n": 4,
        **{word: 5 + i for i, word in enumerate(words)},
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def drawn(figure) -> str:
    """All text of a figure, which must be drawable with something in each of its axes; the figure is closed."""
    import matplotlib.pyplot as plt

    figure.draw_without_rendering()
    assert figure.axes and all(axis.has_data() or axis.texts for axis in figure.axes if axis.get_visible())
    texts = [text.get_text() for axis in figure.axes for text in (*axis.texts, axis.title)]
    texts.append(figure.get_suptitle())
    plt.close(figure)
    return " ".join(texts)
