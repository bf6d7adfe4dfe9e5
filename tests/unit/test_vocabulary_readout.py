"""Readouts of families that scale, tie, project or leave out, against their own tensors."""

import live_models
import pandas as pd
import pytest
import torch
import transformers

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import load_gain
from weight_atlas.spectra.attention_factors import norm_gains
from weight_atlas.vocabulary.down_projections import of_component
from weight_atlas.vocabulary.neurons import neuron_blocks
from weight_atlas.vocabulary.readout import final_norm, fold, read_readout


def saved(folder, kind, **changes):
    torch.manual_seed(0)
    configuration = transformers.AutoConfig.for_model(kind, **{**live_models.COMMON, **changes})
    model = transformers.AutoModelForCausalLM.from_config(configuration).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            parameter += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model, *opened(folder)


def opened(folder):
    checkpoint = Checkpoint.from_folder(folder)
    return checkpoint, inventory(checkpoint)


def test_gain_scale_and_centring_together():
    W_U, gain = torch.randn(7, 4, dtype=torch.float64).float(), torch.rand(4)
    scaled = 0.5 * W_U * gain
    assert torch.allclose(fold(W_U, gain, centred=False, scale=0.5), scaled)
    centred = fold(W_U, gain, centred=True, scale=0.5)
    assert torch.allclose(centred, scaled - scaled.mean(1, keepdim=True)) and centred.sum(1).abs().max() < 1e-6


def test_granite_scales_logits_and_residuals(tmp_path):
    model, checkpoint, rows = saved(tmp_path, "granite", logits_scaling=4.0, residual_multiplier=0.25)
    readout = read_readout(checkpoint, rows)
    assert torch.allclose(readout.unembedding, model.lm_head.weight * model.model.norm.weight / 4.0)
    block = next(neuron_blocks(checkpoint, rows, readout))
    assert torch.allclose(block.vectors, model.model.layers[0].mlp.down_proj.weight * 0.25)


def residuals(n=5, seed=3):
    return 2.0 * torch.randn(n, live_models.D, generator=torch.Generator().manual_seed(seed))


def test_gains_near_zero_are_folded_as_the_model_folds_them(tmp_path):
    """MiniMax M3 stores w of 1 + w, which begins at 0: without the 1 the readout has hardly anything to do with it."""
    folders = [tmp_path / kind for kind in ("minimax_m3_vl_text", "gemma", "nemotron")]
    for folder in folders:
        model, checkpoint, rows = saved(folder, folder.name, layer_types=None, **live_models.EXPERTS)
        h = residuals()
        with torch.no_grad():
            wanted = model.lm_head(model.model.norm(h))
        assert torch.allclose(read_readout(checkpoint, rows).logits(h), wanted, rtol=1e-4, atol=1e-5), folder.name


def test_gains_before_attention_are_folded_into_kernels_as_the_model_multiplies(tmp_path):
    model, checkpoint, rows = saved(tmp_path, "gemma2")
    gains = norm_gains(rows, lambda row: load_gain(checkpoint, row))
    for number, layer in enumerate(model.model.layers):
        wanted = 1.0 + layer.input_layernorm.weight.double()
        assert torch.allclose(torch.from_numpy(gains["decoder", number]), wanted)


def test_biases_of_norm_and_head_are_the_offset(tmp_path):
    model, checkpoint, rows = saved(tmp_path, "phimoe", **live_models.EXPERTS, lm_head_bias=True)
    torch.nn.init.normal_(model.lm_head.bias)
    torch.nn.init.normal_(model.model.norm.bias)
    model.save_pretrained(tmp_path)
    checkpoint, rows = opened(tmp_path)
    readout, h = read_readout(checkpoint, rows), residuals()
    with torch.no_grad():
        assert torch.allclose(readout.logits(h), model.lm_head(model.model.norm(h)), rtol=1e-4, atol=1e-4)
    some = readout.rows(torch.tensor([7, 2]))
    assert torch.allclose(some.logits(h), readout.logits(h)[:, [7, 2]], rtol=1e-5, atol=1e-6)


def test_a_softcap_bends_the_logits_and_no_effect(tmp_path):
    model, checkpoint, rows = saved(tmp_path, "gemma2", final_logit_softcapping=0.5)
    readout, h = read_readout(checkpoint, rows), residuals()
    with torch.no_grad():
        plain = model.lm_head(model.model.norm(h))
    assert readout.softcap == 0.5 and torch.allclose(readout.logits(h), 0.5 * torch.tanh(plain / 0.5), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("llama", "model.norm.weight"),
        ("lfm2", "model.embedding_norm.weight"),
        ("gpt2", "transformer.ln_f.weight"),
    ],
)
def test_a_checkpoint_without_its_final_norm_is_an_error(tmp_path, kind, name):
    _, checkpoint, rows = saved(tmp_path, kind)
    assert final_norm(checkpoint, Architecture.of(checkpoint), rows).tensor == name
    with pytest.raises(AtlasError, match="norm between the last layer and the unembedding is missing"):
        read_readout(checkpoint, rows[rows.tensor != name])


def test_a_head_that_is_no_linear_map_is_refused_by_its_name(tmp_path):
    _, checkpoint, rows = saved(tmp_path, "modernbert-decoder")
    assert final_norm(checkpoint, Architecture.of(checkpoint), rows).tensor == "model.final_norm.weight"
    with pytest.raises(AtlasError, match=r"no linear map of the residual stream: lm_head\.dense\.weight"):
        read_readout(checkpoint, rows)


def test_gains_of_both_branches_of_an_mlp(tmp_path):
    """Gemma 4 has a norm on its dense part, one on its experts, and one on their sum."""
    model, checkpoint, rows = saved(
        tmp_path, "gemma4_text", **live_models.EXPERTS, enable_moe_block=True, top_k_experts=2,
        hidden_size_per_layer_input=0, global_head_dim=16,
    )  # fmt: skip
    layer = model.model.layers[1]
    whole = layer.post_feedforward_layernorm.weight
    blocks = neuron_blocks(checkpoint, rows, read_readout(checkpoint, rows))
    found = {block.expert: block.vectors for block in blocks if block.layer == 1}
    dense = layer.mlp.down_proj.weight * (layer.post_feedforward_layernorm_1.weight * whole)[:, None]
    routed = layer.experts.down_proj[2] * (layer.post_feedforward_layernorm_2.weight * whole)[:, None]
    assert torch.allclose(found[None], dense) and torch.allclose(found[2], routed)


def test_scales_multiply():
    assert Architecture.common({"lm_head_multiplier": 0.5}).logit_scale == 0.5
    config = {"logit_scale": 3.0, "lm_head_multiplier": 0.5, "logits_scaling": 2.0}
    assert Architecture.common(config).logit_scale == 0.75


def test_a_layer_norm_without_parameters_centres(tmp_path):
    model, checkpoint, rows = saved(tmp_path, "olmo")
    readout = read_readout(checkpoint, rows)
    W_U = model.lm_head.weight
    assert readout.centred and torch.allclose(readout.unembedding, W_U - W_U.mean(1, keepdim=True), atol=1e-6)


def test_tied_embeddings_are_the_unembedding(tmp_path):
    model, checkpoint, rows = saved(tmp_path, "llama", tie_word_embeddings=True)
    readout = read_readout(checkpoint, rows)
    assert torch.allclose(readout.unembedding, model.model.embed_tokens.weight * model.model.norm.weight)
    assert not readout.centred and readout.softcap is None


def test_a_projection_before_the_head_is_part_of_it(tmp_path):
    model, checkpoint, rows = saved(tmp_path, "opt", ffn_dim=96, word_embed_proj_dim=32)
    readout, decoder = read_readout(checkpoint, rows), model.model.decoder
    whole = (model.lm_head.weight @ decoder.project_out.weight) * decoder.final_layer_norm.weight
    assert torch.allclose(readout.unembedding, whole - whole.mean(1, keepdim=True), atol=1e-5)


def test_a_row_of_zeros_has_cosine_zero_in_the_scan():
    from weight_atlas.vocabulary.effects import cosine_effects, moments
    from weight_atlas.vocabulary.neuron_scan import prepare, scan_block
    from weight_atlas.vocabulary.readout import Readout

    W_U, vectors = torch.randn(50, 8), torch.randn(8, 3)
    W_U[4], vectors[:, 1] = 0, 0
    table = scan_block(prepare(Readout(W_U, False), torch.ones(50, dtype=torch.bool).numpy()), vectors, k=3)
    for neuron in (0, 2):
        slow = moments(cosine_effects(Readout(W_U, False), vectors[:, neuron]))
        assert table.cos_kurt[neuron] == pytest.approx(slow["kurt"], rel=1e-4)
    assert table.loc[1, ["var", "cos_var", "norm"]].tolist() == [0, 0, 0]
    assert table.loc[1, ["kurt", "cos_kurt"]].isna().all()


def test_components_of_one_place():
    rows = pd.DataFrame({"component": ["", "shared_expert"]})
    assert of_component(rows, "mlp.shared_experts.down_proj").component.tolist() == ["shared_expert"]
    assert of_component(rows, "mlp.down_proj").component.tolist() == of_component(rows, "").component.tolist() == [""]
    assert len(of_component(rows[1:], "mlp.down_proj")) == 1
