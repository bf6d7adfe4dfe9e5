"""Ablations of weights, rows, columns and heads of any role, against the tensors of the plain model edited by hand."""

import pandas as pd
import pytest
import torch
from live_models import FF, D, tiny

from weight_atlas.ablations.choices import check_weights
from weight_atlas.ablations.stored_weights import located
from weight_atlas.ablations.variants import variants_of
from weight_atlas.errors import AtlasError
from weight_atlas.interventions.intervention import applied
from weight_atlas.live.anatomy import anatomy
from weight_atlas.settings.ablations import Ablation
from weight_atlas.settings.messages import checked

IDS = torch.randint(5, 300, (1, 12), generator=torch.Generator().manual_seed(3))


# Layout, the weight as the configuration names it, and the same in the model's own tensors.
CASES = [
    ("llama", {"layer": 1, "role": "W_O", "row": 3, "col": 7}, "model.layers.1.self_attn.o_proj.weight", (3, 7)),
    ("llama", {"layer": 1, "component": "self_attn.o_proj", "col": 7}, "model.layers.1.self_attn.o_proj.weight",
     (slice(None), 7)),
    ("llama", {"layer": 2, "role": "W_O", "head": 1}, "model.layers.2.self_attn.o_proj.weight",
     (slice(None), slice(16, 32))),
    ("llama", {"layer": 2, "role": "W_Q", "head": 3}, "model.layers.2.self_attn.q_proj.weight", slice(48, 64)),
    ("llama", {"layer": 2, "role": "W_K", "head": 1}, "model.layers.2.self_attn.k_proj.weight", slice(16, 32)),
    ("llama", {"layer": 3, "role": "W_V", "row": 9}, "model.layers.3.self_attn.v_proj.weight", 9),
    ("llama", {"layer": 0, "role": "W_gate", "row": 9, "col": 2}, "model.layers.0.mlp.gate_proj.weight", (9, 2)),
    ("llama", {"layer": 0, "component": "mlp.up_proj", "row": 9}, "model.layers.0.mlp.up_proj.weight", 9),
    ("llama", {"layer": 0, "row": 9}, "model.layers.0.mlp.down_proj.weight", 9),
    ("llama", {"layer": 1, "component": "input_layernorm", "row": 5}, "model.layers.1.input_layernorm.weight", 5),
    ("llama", {"layer": 1, "role": "norm", "component": "pre_mlp", "row": 5},
     "model.layers.1.post_attention_layernorm.weight", 5),
    ("llama", {"role": "norm", "row": 5}, "model.norm.weight", 5),
    ("llama", {"role": "W_E", "row": int(IDS[0, 4])}, "model.embed_tokens.weight", int(IDS[0, 4])),
    ("llama", {"role": "W_U", "row": 30, "col": 4}, "lm_head.weight", (30, 4)),
    ("llama", {"layer": 1, "role": "W_O"}, "model.layers.1.self_attn.o_proj.weight", slice(None)),
    ("gpt2", {"layer": 1, "role": "W_Q", "row": 5, "col": 2}, "transformer.h.1.attn.c_attn.weight", (2, 5)),
    ("gpt2", {"layer": 1, "role": "W_K", "row": 5, "col": 2}, "transformer.h.1.attn.c_attn.weight", (2, D + 5)),
    ("gpt2", {"layer": 1, "component": "attn.c_attn", "role": "W_V", "head": 2}, "transformer.h.1.attn.c_attn.weight",
     (slice(None), slice(2 * D + 32, 2 * D + 48))),
    ("gpt2", {"layer": 1, "role": "W_V.bias", "row": 3}, "transformer.h.1.attn.c_attn.bias", 2 * D + 3),
    ("gpt2", {"layer": 1, "role": "W_V.bias", "head": 1}, "transformer.h.1.attn.c_attn.bias",
     slice(2 * D + 16, 2 * D + 32)),
    ("gpt2", {"layer": 1, "component": "attn.c_proj", "row": 3, "col": 8}, "transformer.h.1.attn.c_proj.weight",
     (8, 3)),
    ("gpt2", {"layer": 2, "component": "mlp.c_fc", "row": 3, "col": 8}, "transformer.h.2.mlp.c_fc.weight", (8, 3)),
    ("gpt2", {"layer": 2, "role": "norm.bias", "component": "ln_1", "row": 3}, "transformer.h.2.ln_1.bias", 3),
    ("gpt2", {"role": "W_pos", "row": 3}, "transformer.wpe.weight", 3),
    ("phi3", {"layer": 1, "role": "W_K", "row": 3, "col": 4}, "model.layers.1.self_attn.qkv_proj.weight", (D + 3, 4)),
    ("phi3", {"layer": 1, "role": "W_V", "head": 1}, "model.layers.1.self_attn.qkv_proj.weight",
     slice(D + 32 + 16, D + 32 + 32)),
    ("phi3", {"layer": 1, "role": "W_up", "row": 3}, "model.layers.1.mlp.gate_up_proj.weight", FF + 3),
    ("mixtral", {"layer": 1, "role": "W_down", "expert": 2, "row": 3, "col": 4}, "model.layers.1.mlp.experts.down_proj",
     (2, 3, 4)),
    ("mixtral", {"layer": 1, "role": "W_gate", "expert": 2, "row": 3}, "model.layers.1.mlp.experts.gate_up_proj",
     (2, 3)),
    ("mixtral", {"layer": 1, "role": "W_router", "row": 3}, "model.layers.1.mlp.gate.weight", 3),
    ("gpt_oss", {"layer": 1, "role": "W_up", "expert": 1, "row": 3, "col": 6},
     "model.layers.1.mlp.experts.gate_up_proj", (1, 6, 7)),
    ("gpt_oss", {"layer": 1, "role": "W_down.bias", "expert": 1, "row": 3},
     "model.layers.1.mlp.experts.down_proj_bias", (1, 3)),
]  # fmt: skip


@pytest.fixture(scope="module")
def lives():
    made = {}

    def of(layout):
        if layout not in made:
            model = tiny(layout)
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):  # transformers begins with zeros
                    torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
            made[layout] = anatomy(model)
        return made[layout]

    return of


def logits(live):
    return live.model(IDS, use_cache=False).logits


@pytest.mark.parametrize(("layout", "weight", "name", "index"), CASES, ids=lambda value: str(value)[:50])
def test_what_is_named_is_what_changes(lives, layout, weight, name, index):
    live = lives(layout)
    settings = checked(Ablation, {"weights": [weight], "zero": {}, "scale": {"factors": [3]}, "each": {}}, "a")
    variants = variants_of("a", settings.model_dump(), live, []).variants
    tensor = dict(live.model.named_parameters())[name].data
    stored, untouched = tensor.clone(), logits(live)
    for variant, factor in zip(variants, (0, 0, 3), strict=True):
        tensor[index] *= factor
        by_hand = logits(live)
        tensor.copy_(stored)
        with applied(live, variant):
            assert torch.equal(tensor != stored, changed_at(stored, index, factor))
            assert torch.equal(logits(live), by_hand)
        assert torch.equal(tensor, stored)
        routed = layout in ("mixtral", "gpt_oss") and "expert" in weight
        assert routed or weight.get("role") == "W_router" or not torch.equal(by_hand, untouched)


def changed_at(stored, index, factor):
    mask = torch.zeros_like(stored, dtype=torch.bool)
    mask[index] = True
    return mask & (stored * factor != stored)


def test_tied_embeddings_change_together_and_both_are_named(lives):
    live = lives("qwen2")
    (variant,) = variants_of("a", {"weights": [{"role": "W_U", "row": 7}], "zero": {}}, live, []).variants
    assert "W_E and W_U, which are one" in variant.name
    with applied(live, variant):
        assert not live.model.get_input_embeddings().weight[7].any()
        assert not live.model.get_output_embeddings().weight[7].any()
    weights = [{"role": "W_U", "row": 7}, {"role": "W_E", "row": 7, "col": 3}]
    with pytest.raises(AtlasError, match="share weights") as caught:
        variants_of("a", {"weights": weights, "zero": {}}, live, [])
    assert "one tensor" in caught.value.remedy
    (variant,) = variants_of("a", {"weights": [{"role": "W_U", "row": 7}], "zero": {}}, lives("llama"), []).variants
    assert "which are one" not in variant.name


def test_each_names_a_row_a_head_and_a_weight(lives):
    weights = [{"layer": 1, "role": "W_Q", "head": 2}, {"layer": 1, "role": "W_Q", "row": 3}, {"layer": 1, "row": 7}]
    variants = variants_of("a", {"weights": weights, "each": {}}, lives("llama"), []).variants
    assert [variant.name for variant in variants] == [
        "a: only layer 1 W_Q self_attn.q_proj head 2",
        "a: only layer 1 W_Q self_attn.q_proj [3, :]",
        "a: only layer 1 mlp.down_proj [7, :]",
    ]


def test_random_rows_and_heads_are_others_of_the_same_matrix(lives):
    live = lives("llama")
    weights = [
        {"layer": 1, "role": "W_Q", "head": 2},
        {"layer": 2, "role": "W_V", "row": 3},
        {"layer": 1, "row": 7, "col": 5},
    ]
    expansion = variants_of("a", {"weights": weights, "random": {"draws": 9, "seed": 1}}, live, [])
    assert len(expansion.variants) == 9
    heads = set()
    for variant in expansion.variants:
        places = variant.change.places
        queries = sorted(place.row for place in places if place.role == "W_Q")
        assert len(queries) == 16 and queries[-1] - queries[0] == 15 and queries[0] % 16 == 0
        heads.add(queries[0] // 16)
        (value,) = [place for place in places if place.role == "W_V"]
        assert value.col is None and value.row != 3
        assert len([place for place in places if place.role == "W_down" and place.cell != (7, 5)]) == 1
    assert heads == {0, 1, 3}


def test_neurons_of_gate_and_up_are_columns_of_down(lives):
    live = lives("phi3")
    weights = [{"layer": 1, "role": "W_gate", "row": 5}, {"layer": 1, "role": "W_up", "row": 6}]
    (variant,) = variants_of("a", {"weights": weights, "neurons": {}}, live, []).variants
    before = live.projections[1].matrix().clone()
    with applied(live, variant):
        kept = live.projections[1].matrix()
        assert not kept[:, 5:7].any() and torch.equal(kept[:, 7:], before[:, 7:])
    with pytest.raises(AtlasError, match="neurons needs the row"):
        check_weights({"weights": [{"layer": 1, "role": "W_gate", "col": 5}], "neurons": {}}, "here")
    skipped = variants_of("a", {"weights": [{"layer": 1, "role": "W_O", "col": 5}], "neurons": {}}, live, []).skipped
    assert "of a neuron" in skipped[0].reason
    weights = [{"layer": 1, "role": "W_O", "row": 2, "col": 5}]
    assert "write activations" in variants_of("a", {"weights": weights, "restore": {}}, live, []).skipped[0].reason


def test_experts_lose_their_biases_too(lives):
    live = lives("gpt_oss")
    (variant,) = variants_of("a", {"weights": [{"layer": 1, "expert": 2}], "experts": {}}, live, []).variants
    experts = live.layers[1].mlp.experts
    with applied(live, variant):
        assert not experts.down_proj[2].any() and not experts.down_proj_bias[2].any()
        assert experts.down_proj[1].any() and experts.down_proj_bias[1].any()
    assert experts.down_proj_bias[2].any()


@pytest.mark.parametrize(
    ("layout", "weight", "said", "remedy"),
    [
        ("llama", {"layer": 9, "role": "W_Q", "row": 1}, "no layer 9", "0 to 3"),
        ("llama", {"layer": 1, "role": "W_router", "row": 1}, "no W_router in layer 1", "W_Q, W_K, W_V, W_O"),
        ("llama", {"role": "W_pos", "row": 1}, "no W_pos outside of the layers", "W_E, norm, W_U"),
        ("llama", {"layer": 1, "role": "W_Q", "row": 64}, "outside its matrix", "64 rows and 64 columns"),
        ("llama", {"layer": 1, "role": "W_Q", "head": 4}, "no head 4", "it has 4"),
        ("llama", {"layer": 1, "role": "W_K", "head": 2}, "no head 2", "it has 2"),
        ("llama", {"layer": 1, "role": "W_up", "head": 2}, "has no heads", "W_Q, "),
        ("llama", {"role": "W_E", "head": 2}, "has no heads", "W_Q, "),
        ("llama", {"layer": 1, "role": "norm", "row": 2}, "there are 2 of norm", "pre_attention, pre_mlp"),
        ("llama", {"layer": 1, "role": "norm", "component": "pre_mlp", "row": 64}, "lies outside", "64 entries"),
        ("llama", {"layer": 1, "role": "W_Q", "component": "mlp.up_proj", "row": 2}, "no component", "attn.q_proj"),
        ("gpt2", {"layer": 1, "component": "attn.c_attn", "row": 2}, "holds W_Q, W_K, W_V", "give the role"),
        ("mixtral", {"layer": 1, "role": "W_gate", "row": 2}, "expert None", "0 to 3"),
        ("mixtral", {"layer": 1, "role": "W_gate", "row": 2, "expert": 7}, "expert 7", "0 to 3"),
    ],
)  # fmt: skip
def test_what_the_model_lacks_is_said_with_what_it_has(lives, layout, weight, said, remedy):
    with pytest.raises(AtlasError) as caught:
        variants_of("a", {"weights": [weight], "zero": {}}, lives(layout), [])
    assert said in caught.value.what and remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        ({"layer": 1, "role": "W_q", "row": 1}, "did you mean 'W_Q'"),
        ({"layer": 1, "role": "bias", "row": 1}, "W_Q.bias for a bias"),
        ({"row": 1}, "give its layer"),
        ({"layer": 1, "role": "W_Q", "head": 1, "row": 2}, "not both"),
    ],
)
def test_the_configuration_refuses_what_can_be_no_weight(weight, said):
    with pytest.raises(AtlasError, match=said):
        checked(Ablation, {"weights": [weight], "zero": {}}, "a")


def stored():
    """The inventory of a checkpoint whose experts are modules of their own, and its live model's are stacked."""
    rows = [
        ("model.embed_tokens.weight", "W_E", "", None, None, 300, 64),
        ("model.layers.0.self_attn.o_proj.weight", "W_O", "", 0, None, 64, 64),
        ("model.layers.0.self_attn.qkv.weight", "W_Q", "", 0, None, 64, 64),
        ("model.layers.0.self_attn.qkv.weight", "W_K", "", 0, None, 32, 64),
        ("model.layers.0.self_attn.qkv.bias", "bias", "W_Q", 0, None, 64, None),
        *(
            (f"model.layers.0.block_sparse_moe.experts.{expert}.{name}.weight", role, "", 0, expert, 64, 40)
            for expert in range(2)
            for name, role in (("w1", "W_gate"), ("w2", "W_down"))
        ),
    ]
    table = pd.DataFrame(rows, columns=["tensor", "role", "of_role", "layer", "expert", "rows", "cols"])
    table = table.assign(stack="decoder", component="")
    return table.astype({"layer": "Int64", "expert": "Int64", "rows": "Int64", "cols": "Int64"})


def test_modules_are_found_by_the_names_that_the_checkpoint_stores():
    def found(**weight):
        return located({"weights": [weight], "zero": {}}, stored(), "here")["weights"][0]

    weight = {"layer": 0, "component": "block_sparse_moe.experts.1.w2", "row": 3, "col": 4}
    assert found(**weight) == {**weight, "role": "W_down", "component": "", "expert": 1}
    assert found(layer=0, component="self_attn.o_proj", row=3)["role"] == "W_O"
    assert found(layer=0, component="self_attn.qkv", role="W_K", row=3)["component"] == "self_attn.qkv"
    assert found(layer=0, component="self_attn.qkv", role="W_Q.bias", row=3)["role"] == "W_Q.bias"
    assert found(component="model.embed_tokens", row=3)["role"] == "W_E"
    unknown = {"layer": 0, "component": "mlp.experts", "row": 3, "col": 4, "expert": 1}
    assert found(**unknown) == unknown
    assert located({"zero": {}}, stored(), "here") == {"zero": {}}


@pytest.mark.parametrize(
    ("weight", "said", "remedy"),
    [
        ({"layer": 0, "component": "self_attn.qkv", "row": 3}, "holds W_Q, W_K", "give the role"),
        ({"layer": 0, "component": "self_attn.qkv", "role": "W_O", "row": 3}, "holds no W_O", "W_Q, W_K"),
        ({"layer": 1, "role": "W_O", "row": 3}, "no layer 1", "0 to 0"),
        ({"layer": 0, "role": "W_E", "row": 3}, "no W_E in layer 0", "leave the layer out"),
        ({"layer": 0, "role": "W_V", "row": 3}, "no W_V in layer 0", "W_O, W_Q, W_K"),
        ({"layer": 0, "role": "W_K", "row": 32}, "row 32 lies outside W_K", "32 rows and 64 columns"),
        ({"layer": 0, "role": "W_Q.bias", "row": 64}, "row 64 lies outside W_Q.bias", "64 rows, numbered"),
        ({"layer": 0, "role": "W_gate", "expert": 2, "row": 1}, "no expert 2", "0 to 1"),
    ],
)
def test_the_checkpoint_tells_impossible_weights_of_any_role(weight, said, remedy):
    with pytest.raises(AtlasError) as caught:
        located({"weights": [weight], "zero": {}}, stored(), "here")
    assert said in caught.value.what and remedy in caught.value.remedy
