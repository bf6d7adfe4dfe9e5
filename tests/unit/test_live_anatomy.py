"""What the parameters of a live model are: by the family's table, and by their names in foreign code alone."""

import pytest
import torch
import transformers
from live_models import LISTED, tiny
from transformers.core_model_loading import Chunk, Conv3dToLinear

from weight_atlas.errors import AtlasError
from weight_atlas.families.matching import Match
from weight_atlas.families.roles import Role
from weight_atlas.families.schema import Row
from weight_atlas.interventions.quantized_layers import layer_matrices
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.foreign_code import guessed_parts
from weight_atlas.live.live_names import Origin, live_names
from weight_atlas.live.matrices import matrix_at
from weight_atlas.live.parts import live_rows


def test_every_role_is_a_view_of_the_live_parameter():
    llama, phi3, gpt2, mixtral = (
        tiny(layout, num_key_value_heads=4) for layout in ("llama", "phi3", "gpt2", "mixtral")
    )
    attention, fused = llama.model.layers[2].self_attn, phi3.model.layers[2].self_attn.qkv_proj.weight
    transposed = gpt2.transformer.h[2].attn
    for model, role, wanted in (
        (llama, "W_Q", attention.q_proj.weight),
        (llama, "W_O", attention.o_proj.weight),
        (phi3, "W_Q", fused[:64]),
        (phi3, "W_K", fused[64:128]),
        (phi3, "W_V", fused[128:]),
        (gpt2, "W_K", transposed.c_attn.weight[:, 64:128].T),
        (gpt2, "W_O", transposed.c_proj.weight.T),
        (mixtral, "W_router", mixtral.model.layers[2].mlp.gate.weight),
    ):
        view = matrix_at(anatomy(model), Coordinate(2, None, None, role=role))
        assert torch.equal(view, wanted) and view.data_ptr() == wanted.data_ptr(), role
        view[1, 2] = 7.0
        assert wanted[1, 2] == 7.0


def test_a_role_without_a_matrix_of_its_own_is_a_message():
    with pytest.raises(AtlasError, match="rows lie among others"):
        matrix_at(anatomy(tiny("gpt_neox")), Coordinate(1, None, None, role="W_Q"))
    live = anatomy(tiny("llama"))
    for role in ("W_router", "W_Q_a", "nonsense"):
        with pytest.raises(AtlasError, match=f"no matrix of role {role}"):
            matrix_at(live, Coordinate(1, None, None, role=role))
    several = anatomy(tiny("qwen2_moe"))
    assert matrix_at(several, Coordinate(1, None, None, role="W_router")).shape == (4, 64)
    gate = several.layers[1].mlp.shared_expert_gate.weight
    for component in ("shared_expert", "mlp.shared_expert_gate"):
        found = matrix_at(several, Coordinate(1, None, None, role="W_router", component=component))
        assert found.data_ptr() == gate.data_ptr()


def test_live_names_follow_transformers_own_mapping():
    names = live_names(tiny("mixtral"))
    place = "model.layers.1.block_sparse_moe"
    assert names[f"{place}.experts.3.w1.weight"] == ("model.layers.1.mlp.experts.gate_up_proj",)
    assert names[f"{place}.experts.3.w2.weight"] == ("model.layers.1.mlp.experts.down_proj",)
    assert names[f"{place}.gate.weight"] == ("model.layers.1.mlp.gate.weight",)
    assert live_names(tiny("gpt_neox"))["embed_out.weight"] == ("lm_head.weight",)


def test_an_operation_that_nobody_foresaw_explains_nothing():
    match = Match(Row(role=Role.W_DOWN), "")
    known = Origin(("a",), {"b": (2, 2), "c": (2, 2)}, (Chunk(dim=0).reverse_op,))
    assert live_rows(known, [match, match]) == [Row(role=Role.W_DOWN)]
    strange = Origin(("a",), {"b": (2, 2)}, (Conv3dToLinear(1, (1, 1, 1)),))
    assert live_rows(strange, [match]) is None
    assert live_rows(Origin(("a",), {"b": (2, 2), "c": (2, 2)}, (Chunk(dim=1).reverse_op,)), [match, match]) is None


def test_names_are_guessed_for_foreign_code_alone_and_the_log_says_so(capsys):
    anatomy(tiny("gpt2"))
    assert capsys.readouterr().out == ""
    live = anatomy(tiny(LISTED))
    said = capsys.readouterr().out
    assert "guessed from their names" in said and "model.layers.N.mlp.experts.N.down_proj.weight" in said
    assert [p.expert for p in live.projections if p.layer == 1] == [0, 1, 2, 3, None]
    assert [p.shared_expert for p in live.projections if p.layer == 1] == [False] * 4 + [True]
    gate = matrix_at(live, Coordinate(1, None, None, 2, "W_gate"))
    assert gate.data_ptr() == live.layers[1].mlp.experts[2].gate_proj.weight.data_ptr()


class Foreign(transformers.GPT2Config):
    model_type = "nobody_knows"


def test_a_model_type_without_a_table_takes_the_family_that_is_given(capsys):
    model = tiny("gpt2")
    wanted = [(p.layer, p.component, p.shape) for p in anatomy(model).projections]
    model.config = Foreign(**model.config.to_dict())
    named = anatomy(model, "gpt2")
    assert capsys.readouterr().out == ""
    guessed = anatomy(model)
    assert "unknown architecture" in capsys.readouterr().out
    for live in (named, guessed):
        assert [(p.layer, p.component, p.shape) for p in live.projections] == wanted
        # Conv1D stands as (in, out) in attention too.
        views = {name: view for _, name, view in layer_matrices(live)}
        assert views["transformer.h.1.attn.c_attn"].shape == (192, 64)
        assert views["transformer.h.1.mlp.c_fc"].shape == (96, 64)


def test_foreign_code_with_the_names_of_its_family_needs_no_guess(capsys):
    """A module of another class, as in code that ships with a checkpoint: names decide, not classes."""
    model = tiny("llama")
    for layer in model.model.layers:
        layer.mlp.__class__ = type("TheirMLP", (type(layer.mlp),), {})
    assert len(anatomy(model).projections) == 4
    assert capsys.readouterr().out == ""


def test_modules_built_the_other_way_round_than_the_table_says_are_seen(capsys):
    """GPT-2's names on nn.Linear: the same logical matrices."""
    model = tiny("gpt2")
    wanted = [matrix_at(anatomy(model), Coordinate(1, None, None, role=role)).clone() for role in ("W_up", "W_down")]
    for layer in model.transformer.h:
        for name in ("c_fc", "c_proj"):
            kept = getattr(layer.mlp, name)
            linear = torch.nn.Linear(*kept.weight.shape)
            linear.weight.data, linear.bias.data = kept.weight.data.T.contiguous(), kept.bias.data
            setattr(layer.mlp, name, linear)
    live = anatomy(model)
    assert "guessed from their names" in capsys.readouterr().out
    for role, matrix in zip(("W_up", "W_down"), wanted, strict=True):
        assert torch.equal(matrix_at(live, Coordinate(1, None, None, role=role)), matrix)


def test_the_language_model_of_a_composite_one_is_found():
    text = {"num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
    seen = {"num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    text |= {"model_type": "llama", "num_key_value_heads": 2, "vocab_size": 300}
    config = transformers.LlavaConfig(
        text_config=text, vision_config={**seen, "model_type": "clip_vision_model", "image_size": 28, "patch_size": 14}
    )
    model = transformers.LlavaForConditionalGeneration(config)
    live = anatomy(model)
    assert live.layers_path == "model.language_model.layers" and len(live.layers) == 3
    assert [(p.layer, p.component, p.shape) for p in live.projections] == [
        (layer, "mlp.down_proj", (64, 96)) for layer in range(3)
    ]
    assert not any("vision" in name for _, name, _ in layer_matrices(live))


def test_norms_after_an_mlp_are_guessed_in_foreign_code_alone():
    model = tiny("gemma2")
    guessed = [part for part in guessed_parts(model) if part.role is Role.NORM]
    assert [part.layer for part in guessed] == [0, 1, 2, 3]
    wanted = [layer.post_feedforward_layernorm for layer in model.model.layers]
    assert [model.get_submodule(part.module) for part in guessed] == wanted
    live = anatomy(model)
    assert [live.norm_at(part.layer, "post_mlp") for part in guessed] == wanted
    assert live.norm_at(0, "post_experts") is None
