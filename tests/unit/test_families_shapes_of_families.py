"""Shapes that single families have for reasons of their own, held to config.json."""

import json

import pytest
import torch
from safetensors.torch import save_file
from test_families_shapes import CONFIG, headers, refused

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import load_piece


@pytest.mark.parametrize("head", ["PreTraining", "MaskedLM", "SequenceClassification", "MultipleChoice"])
def test_electra_with_an_embedding_narrower_than_its_layers_is_an_ordinary_model(head):
    """The small and the large ones have it: their discriminator's transform is as wide as the layers."""
    import transformers

    size = {"embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    configuration = transformers.ElectraConfig(**size, num_hidden_layers=2, vocab_size=30, max_position_embeddings=10)
    with torch.device("meta"):
        model = getattr(transformers, f"ElectraFor{head}")(configuration)
    tied = model.all_tied_weights_keys
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items() if name not in tied}
    rows = inventory(headers({**configuration.to_dict(), "architectures": [f"ElectraFor{head}"]}, shapes))
    assert set(rows[rows.role == "W_E"].cols) == {8} and set(rows[rows.role == "W_Q"].cols) == {16}


def test_the_head_of_an_electra_discriminator_is_as_wide_as_its_body():
    """Its generator's head is as wide as the embedding, which small ones have narrower than the body."""
    config = {
        "architectures": ["ElectraForPreTraining"], "model_type": "electra", "embedding_size": 4, "hidden_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 10,
    }  # fmt: skip
    layer = {
        "attention.self.query": (8, 8), "attention.self.key": (8, 8), "attention.self.value": (8, 8),
        "attention.output.dense": (8, 8), "intermediate.dense": (12, 8), "output.dense": (8, 12),
    }  # fmt: skip
    shapes = {
        "electra.embeddings.word_embeddings.weight": (10, 4),
        "electra.embeddings_project.weight": (8, 4),
        **{f"electra.encoder.layer.0.{name}.weight": shape for name, shape in layer.items()},
        "discriminator_predictions.dense.weight": (8, 8),
        "discriminator_predictions.dense.bias": (8,),
        "discriminator_predictions.dense_prediction.weight": (1, 8),
        "discriminator_predictions.dense_prediction.bias": (1,),
    }
    assert len(inventory(headers(config, shapes))) == len(shapes) + 1
    assert "must have 8 rows" in refused(config, {**shapes, "discriminator_predictions.dense.weight": (4, 8)})


def test_the_heads_of_lfm3_have_the_width_that_config_json_gives():
    """Those of LFM2 are a share of d_model."""
    config = {**CONFIG, "architectures": ["Lfm3ForCausalLM"], "model_type": "lfm3", "head_dim": 6, "vocab_size": 10}
    config |= {"num_hidden_layers": 1, "layer_types": ["full_attention"]}
    layer = {
        "self_attn.q_proj": (12, 8), "self_attn.k_proj": (6, 8), "self_attn.v_proj": (6, 8),
        "self_attn.o_proj": (8, 12), "self_attn.q_norm": (6,), "self_attn.k_norm": (6,),
    }  # fmt: skip
    shapes = {"model.embed_tokens.weight": (10, 8)}
    shapes |= {f"model.layers.0.{name}.weight": shape for name, shape in layer.items()}
    assert set(inventory(headers(config, shapes))["tensor"]) == set(shapes)
    assert "must have 6 rows" in refused(config, {**shapes, "model.layers.0.self_attn.q_norm.weight": (4,)})


def test_an_untied_head_of_bert_generation_may_store_its_bias_twice():
    config = {
        "architectures": ["BertGenerationDecoder"], "model_type": "bert-generation", "hidden_size": 8, "vocab_size": 10,
        "num_hidden_layers": 1, "num_attention_heads": 2, "tie_word_embeddings": False,
    }  # fmt: skip
    shapes = {"bert.embeddings.word_embeddings.weight": (10, 8), "bert.encoder.layer.0.output.dense.weight": (8, 12)}
    shapes |= {"lm_head.decoder.weight": (10, 8), "lm_head.bias": (10,), "lm_head.decoder.bias": (9,)}
    assert "lm_head.decoder.bias" in refused(config, shapes)  # its size is held, too
    table = inventory(headers(config, {name: shape for name, shape in shapes.items() if name != "lm_head.bias"} | {
        "lm_head.decoder.bias": (10,)
    }))  # fmt: skip
    assert table.query("of_role == 'W_U'")["tensor"].tolist() == ["lm_head.decoder.bias"]


def test_latent_heads_are_as_wide_as_their_two_parts():
    """A sum that config.json repeats is not read by the model, and may be of an older one."""
    config = {
        **CONFIG, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "num_hidden_layers": 1,
        "qk_nope_head_dim": 3, "qk_rope_head_dim": 2, "v_head_dim": 3, "qk_head_dim": 4,
    }  # fmt: skip
    query = "model.layers.0.self_attn.q_proj.weight"
    shapes = {"model.embed_tokens.weight": (10, 8), query: (10, 8)}
    assert query in set(inventory(headers(config, shapes))["tensor"])
    assert "must have 10 rows" in refused(config, {**shapes, query: (8, 8)})


def test_a_gguf_file_is_held_to_its_metadata():
    config = {
        "architectures": ["GGUF"], "model_type": "llama", "gguf": {}, "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 10, "tie_word_embeddings": False,
    }  # fmt: skip
    shapes = {"token_embd.weight": (10, 8), "output.weight": (10, 8), "blk.0.ffn_up.weight": (12, 8)}
    assert len(inventory(headers(config, shapes), family="gguf")) == 3
    with pytest.raises(AtlasError, match=r"blk.0.ffn_up.weight reads as W_up of 8x12.*stored transposed"):
        inventory(headers(config, {**shapes, "blk.0.ffn_up.weight": (8, 12)}), family="gguf")


WIDTH, GPT2_LAYERS = 8, 2


GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": WIDTH, "n_head": 2, "n_layer": GPT2_LAYERS,
    "n_positions": 16, "vocab_size": 10,
}  # fmt: skip


GPT2_MATRICES = {
    "attn.c_attn": (3 * WIDTH, WIDTH), "attn.c_proj": (WIDTH, WIDTH), "mlp.c_fc": (4 * WIDTH, WIDTH),
    "mlp.c_proj": (WIDTH, 4 * WIDTH),
}  # fmt: skip


class TestOrientationOfGpt2:
    """GPT-2's names with matrices stored (in, out), by Conv1D, or (out, in), by nn.Linear."""

    def write(self, folder, config: dict, linear: bool, kept=tuple(GPT2_MATRICES)) -> tuple[Checkpoint, dict]:
        """A checkpoint, and its matrices as (out, in) by name."""
        torch.manual_seed(0)
        matrices = {
            f"transformer.h.{layer}.{name}.weight": torch.randn(GPT2_MATRICES[name])
            for layer in range(GPT2_LAYERS)
            for name in kept
        }
        stored = {name: (weight if linear else weight.T).contiguous() for name, weight in matrices.items()}
        stored |= {"transformer.wte.weight": torch.randn(10, WIDTH), "transformer.wpe.weight": torch.randn(16, WIDTH)}
        save_file(stored, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config))
        return Checkpoint.from_folder(folder, family="gpt2"), matrices

    @pytest.mark.parametrize("config", [GPT2, {}], ids=["config.json", "none"])
    @pytest.mark.parametrize("linear", [False, True], ids=["Conv1D", "Linear"])
    def test_either_way_of_storing_gives_the_same_matrices(self, tmp_path, config, linear):
        checkpoint, matrices = self.write(tmp_path, config, linear)
        table = inventory(checkpoint)
        for row in table[table["tensor"].isin(matrices.keys())].itertuples():
            whole = matrices[row.tensor]
            block = {"W_Q": 0, "W_K": 1, "W_V": 2}.get(row.role, 0) * WIDTH
            assert torch.equal(load_piece(checkpoint, row), whole[block : block + WIDTH] if row.piece else whole)
            assert row.note.startswith("stored (out, in), as in nn.Linear") == linear

    def test_square_matrices_alone_are_read_by_name_and_it_is_said(self, tmp_path):
        checkpoint, matrices = self.write(tmp_path, GPT2, linear=False, kept=["attn.c_proj"])
        rows = inventory(checkpoint).query("role == 'W_O'")
        assert len(rows) == 2 and rows["note"].str.startswith("orientation by name only").all()
        for row in rows.itertuples():
            assert torch.equal(load_piece(checkpoint, row), matrices[row.tensor])

    @pytest.mark.parametrize("linear", [False, True])
    def test_one_matrix_stored_the_other_way_round_is_refused(self, tmp_path, linear):
        checkpoint, _ = self.write(tmp_path, GPT2, linear)
        shapes = {name: entry.shape for name, entry in checkpoint.entries.items()}
        shapes["transformer.h.1.mlp.c_fc.weight"] = shapes["transformer.h.1.mlp.c_fc.weight"][::-1]
        said = refused(GPT2, shapes)
        assert "tensor transformer.h.1.mlp.c_fc.weight of shape" in said and "the other way round" in said
