"""Vocabulary effects against plain float64 computation, planted neurons, and the scan against single effects."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from safetensors.torch import save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.inventory import inventory
from weight_atlas.settings.vocabulary import NeuronLabels
from weight_atlas.vocabulary.effects import cosine_effects, direct_effects, moments, scalar_effects, top_tokens
from weight_atlas.vocabulary.labels import label_neurons, threshold_value
from weight_atlas.vocabulary.neuron_scan import prepare, scan, scan_block
from weight_atlas.vocabulary.neurons import neuron_blocks, vectors_of
from weight_atlas.vocabulary.readout import Readout, fold, read_readout
from weight_atlas.vocabulary.selection import ORDERS, select_neurons

V, D, N = 700, 24, 37


@pytest.fixture
def random():
    return np.random.default_rng(0)


def checkpoint(folder, config, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return Checkpoint.from_folder(folder)


def llama(random, **extra):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2, "hidden_size": D}
    config |= {"num_attention_heads": 2, "intermediate_size": N, "vocab_size": V, "tie_word_embeddings": False, **extra}
    make = lambda *shape: torch.from_numpy(random.standard_normal(shape)).float()  # noqa: E731
    tensors = {"model.embed_tokens.weight": make(V, D), "lm_head.weight": make(V, D), "model.norm.weight": make(D)}
    for layer in range(2):
        tensors[f"model.layers.{layer}.mlp.down_proj.weight"] = make(D, N)
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = make(D)
        tensors[f"model.layers.{layer}.post_attention_layernorm.weight"] = make(D)
    return config, tensors


def blocks_of(source):
    rows = inventory(source)
    readout = read_readout(source, rows)
    return readout, list(neuron_blocks(source, rows, readout))


def test_rms_norm_folds_its_gain(tmp_path, random):
    config, tensors = llama(random)
    readout, blocks = blocks_of(checkpoint(tmp_path, config, tensors))
    W_U, gain = tensors["lm_head.weight"].double(), tensors["model.norm.weight"].double()
    slow = (W_U * gain) @ tensors["model.layers.1.mlp.down_proj.weight"].double()
    np.testing.assert_allclose(direct_effects(readout, blocks[1].vectors), slow, rtol=1e-5, atol=1e-5)
    assert (blocks[1].layer, blocks[1].expert, readout.centred) == (1, None, False)


def test_gemma_adds_one_to_gains_and_folds_the_norm_after_the_mlp(tmp_path, random):
    config, tensors = llama(random)
    config |= {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "final_logit_softcapping": 30.0}
    after = torch.from_numpy(random.standard_normal((2, D))).float()
    for layer in range(2):
        for name in ("pre_feedforward_layernorm", "post_feedforward_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = after[layer].clone()
    readout, blocks = blocks_of(checkpoint(tmp_path, config, tensors))
    W_U, gain = tensors["lm_head.weight"].double(), 1 + tensors["model.norm.weight"].double()
    written = (1 + after[0].double())[:, None] * tensors["model.layers.0.mlp.down_proj.weight"].double()
    np.testing.assert_allclose(direct_effects(readout, blocks[0].vectors), (W_U * gain) @ written, rtol=1e-5, atol=1e-4)
    assert readout.softcap == 30.0


def test_layer_norm_centres_and_its_bias_changes_nothing(tmp_path, random):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=D, n_layer=2, n_head=2, n_positions=8)).double().eval()
    torch.nn.init.normal_(model.transformer.ln_f.weight)
    torch.nn.init.normal_(model.transformer.ln_f.bias)
    model.save_pretrained(tmp_path)
    readout, blocks = blocks_of(Checkpoint.from_folder(tmp_path))
    assert readout.centred
    # The readout is the derivative of the logits along the neuron, times the standard deviation that it leaves out.
    hidden = torch.randn(D, dtype=torch.float64) + 3.0
    vector = model.transformer.h[1].mlp.c_proj.weight[5].detach()
    vector = vector - vector.mean()
    # Take off what changes the standard deviation, which a first-order readout does not see.
    deviation = hidden - hidden.mean()
    vector = vector - deviation * (vector @ deviation) / (deviation @ deviation)
    logits = lambda h: model.lm_head(model.transformer.ln_f(h))  # noqa: E731
    slow = (logits(hidden + 1e-5 * vector) - logits(hidden - 1e-5 * vector)).detach() / 2e-5
    scaled = slow * torch.sqrt(deviation.square().mean() + model.config.layer_norm_epsilon)
    np.testing.assert_allclose(direct_effects(readout, vector + 7.0), scaled, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(blocks[1].vectors[:, 5], model.transformer.h[1].mlp.c_proj.weight[5].detach(), rtol=1e-6)


def test_no_norm_and_scales(random):
    W_U = torch.from_numpy(random.standard_normal((V, D))).float()
    assert torch.equal(fold(W_U, None, centred=False), W_U)
    assert torch.equal(fold(W_U, None, centred=False, scale=0.5), W_U * 0.5)
    assert Architecture.common({"logit_scale": 0.0625}).logit_scale == 0.0625
    assert Architecture.common({"logits_scaling": 8.0}).logit_scale == 0.125
    assert Architecture.common({"hidden_size": 1024, "dim_model_base": 256}).logit_scale == 0.25
    assert Architecture.common({"d_model": 64, "logit_scale": "inv_sqrt_d_model"}).logit_scale == 0.125
    assert Architecture.common({"text_config": {"logit_scale": 2.0}}).logit_scale == 2.0


def test_cosine_and_scalar_effects(random):
    W_U, vectors = random.standard_normal((V, D)), random.standard_normal((D, 3))
    W_U[4] = 0
    plain = Readout(torch.from_numpy(W_U), False)
    norms = np.linalg.norm(W_U, axis=1)[:, None] * np.linalg.norm(vectors, axis=0)
    slow = np.divide(W_U @ vectors, norms, out=np.zeros((V, 3)), where=norms > 0)
    np.testing.assert_allclose(cosine_effects(plain, torch.from_numpy(vectors)), slow, atol=1e-14)
    centred = Readout(torch.from_numpy(W_U - W_U.mean(1, keepdims=True)), True)
    row, column = centred.unembedding[9].numpy(), vectors[:, 1] - vectors[:, 1].mean()
    expected = row @ column / np.linalg.norm(row) / np.linalg.norm(column)
    assert cosine_effects(centred, torch.from_numpy(vectors))[9, 1] == pytest.approx(expected, abs=1e-14)
    one = torch.zeros(D, dtype=torch.float64)
    one[6] = -2.5
    for readout in (plain, centred):
        np.testing.assert_allclose(scalar_effects(readout, 6, -2.5), direct_effects(readout, one), atol=1e-12)


def test_moments_are_raw_and_of_the_population(random):
    values = random.gamma(2.0, size=5000)
    found = moments(values)
    assert found["kurt"] == pytest.approx(scipy.stats.kurtosis(values, fisher=False))
    assert found["skew"] == pytest.approx(scipy.stats.skew(values))
    assert found["var"] == pytest.approx(np.var(values))
    assert abs(moments(random.standard_normal(10**6))["kurt"] - 3) < 0.02
    assert np.isnan(moments(np.full(10, 0.1))["kurt"])


def test_top_tokens_leave_out_what_is_not_listed():
    effects = np.array([5.0, 1.0, 3.0, 3.0, -2.0, -7.0])
    allowed = np.array([False, True, True, True, True, True])
    up, down = top_tokens(effects, allowed, 3)
    assert up.tolist() == [2, 3, 1]
    assert down.tolist() == [5, 4, 1]
    assert len(top_tokens(effects, allowed, 20)[0]) == 5


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("vocabulary", [9, 700, 5000])
def test_scan_agrees_with_single_effects(random, centred, vocabulary):
    W_U = torch.from_numpy(random.standard_normal((vocabulary, D)) * random.gamma(1.0, size=(vocabulary, 1)) + 0.3)
    readout = Readout(fold(W_U.float(), None, centred=centred), centred)
    vectors = torch.from_numpy(random.standard_normal((D, 300))).float()
    listed = random.random(vocabulary) > 0.3
    table = scan_block(prepare(readout, listed), vectors, k=7)
    effects, cosines = direct_effects(readout, vectors), cosine_effects(readout, vectors)
    for neuron in range(0, 300, 23):
        slow, row = moments(effects[:, neuron]), table.iloc[neuron]
        for name in ("mean", "var", "skew", "kurt"):
            assert row[name] == pytest.approx(slow[name], rel=2e-4, abs=2e-5), name
        for name, value in moments(cosines[:, neuron]).items():
            assert row[f"cos_{name}"] == pytest.approx(value, rel=2e-4, abs=2e-6), name
        up, down = top_tokens(effects[:, neuron], listed, 7)
        np.testing.assert_allclose(row.top_effects, effects[up, neuron], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(row.bottom_effects, effects[down, neuron], rtol=1e-4, atol=1e-5)
        assert (row.top_ids.tolist(), row.bottom_ids.tolist()) == (up.tolist(), down.tolist())


def test_scan_keeps_the_smaller_id_of_ties():
    W_U = torch.ones(3000, 4)
    table = scan_block(prepare(Readout(W_U, False), np.ones(3000, bool)), torch.ones(4, 2), k=5)
    assert table.top_ids[0].tolist() == table.bottom_ids[1].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(table["kurt"][0])


def test_scan_for_gpus_agrees(random):
    from weight_atlas.vocabulary import neuron_scan as module

    readout = Readout(torch.from_numpy(random.standard_normal((40_000, D))).float(), False)
    vectors = torch.from_numpy(random.standard_normal((D, 50))).float()
    vocabulary = prepare(readout, random.random(40_000) > 0.1)
    units = torch.nn.functional.normalize(vectors.T, dim=1)
    both = module._on_device(vocabulary, units, 6), module._on_cores(vocabulary, units, 6)[0]
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-2)


def test_scan_has_the_same_bits_on_any_number_of_threads(random):
    # Large enough for torch to split its products over threads.
    readout = Readout(torch.from_numpy(random.standard_normal((5000, 400))).float(), True)
    vectors = torch.from_numpy(random.standard_normal((400, 700))).float()
    before, tables = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            tables.append(scan_block(prepare(readout, np.ones(5000, bool)), vectors, k=5))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], check_exact=True)


def test_planted_neurons_are_labelled(random):
    # In 64 channels random effects are near Gaussian; a neuron that writes one token's direction stands out.
    d_model, vocabulary = 64, 4000
    W_U = random.standard_normal((vocabulary, d_model))
    W_U[123] *= 12
    quiet = np.linalg.svd(W_U)[2][-1]
    vectors = np.stack([W_U[123], -W_U[123], random.standard_normal(d_model), 5 * quiet], axis=1)
    readout = Readout(torch.from_numpy(W_U).float(), False)
    table = scan_block(prepare(readout, np.ones(vocabulary, bool)), torch.from_numpy(vectors).float())
    table.insert(0, "layer", 3)
    thresholds = NeuronLabels(cosine_variance=0.5, entropy_cosine_variance="p25")
    labels = label_neurons(table, thresholds, n_layers=4, d_model=64)
    assert labels[:2].tolist() == ["prediction", "suppression"]
    assert table.top_ids[0][0] == table.bottom_ids[1][0] == 123
    assert labels[2] == "unclear"
    table["norm"] = [1.0, 1.0, 1.0, 100.0]
    assert label_neurons(table, thresholds, n_layers=4, d_model=64)[3] == "entropy"
    assert label_neurons(table, NeuronLabels(cosine_variance=0.5), n_layers=40, d_model=64)[3] == "unclear"
    assert label_neurons(table, NeuronLabels(cosine_variance=0.0), n_layers=4, d_model=4000)[2] == "partition"
    assert label_neurons(table, NeuronLabels(cosine_variance=0.0), n_layers=4, d_model=64)[2] == "unclear"


def test_a_threshold_that_is_none_is_refused():
    table = pd.DataFrame({"layer": [0], "kurt": [1.0], "skew": [0.0], "cos_var": [0.1], "norm": [1.0]})
    with pytest.raises(AtlasError, match="no threshold"):
        threshold_value("kurtosis", "high", table)


def test_experts_are_neurons_of_their_own(random):
    readout = Readout(torch.from_numpy(random.standard_normal((V, D))).float(), False)
    from weight_atlas.vocabulary.neurons import NeuronBlock

    places = [(0, None, ""), (1, 0, ""), (1, 1, ""), (1, None, "shared_expert")]
    blocks = [NeuronBlock(*place, "t", torch.from_numpy(random.standard_normal((D, 5))).float()) for place in places]
    table = scan(prepare(readout, np.ones(V, bool)), blocks)
    assert len(table) == 20
    record = {"layer": 1, "column": 3, "expert_id": 1, "component": "mlp.experts"}
    shared = {"layer": 1, "column": 4, "expert_id": None, "component": "mlp.shared_expert.down_proj"}
    chosen = select_neurons(table, [record, record, shared], [[0, 2], [1, 0, 2]], top_k=1)
    got = {(row.layer, None if pd.isna(row.expert) else row.expert, row.neuron): row.selected_by
           for row in chosen.itertuples()}  # fmt: skip
    assert got[1, 1, 3].startswith("super weight") and got[1, None, 4].startswith("super weight")
    assert "configured" in got[0, None, 2] and "configured" in got[1, 0, 2]
    assert sum("top kurtosis" in reason for reason in got.values()) == 2
    with pytest.raises(AtlasError, match="no layer 1 expert 7 neuron 0"):
        select_neurons(table, [], [[1, 7, 0]])
    for wrong in ([[1]], [1, 2]):
        with pytest.raises(AtlasError, match="is no neuron"):
            select_neurons(table, [], wrong)


def test_a_neuron_owns_the_super_weights_of_its_component(random):
    """A dense MLP and shared experts in one layer have neurons of the same number."""
    places = [(1, None, ""), (1, None, "shared_expert"), (1, 0, "")]
    table = pd.DataFrame(places, columns=["layer", "expert", "component"]).assign(
        neuron=3, **dict.fromkeys(MOMENTS, 1.0)
    )
    table["expert"] = table.expert.astype("Int64")
    dense = {"layer": 1, "row": 5, "column": 3, "expert_id": None, "component": "mlp.down_proj"}
    shared = {**dense, "row": 6, "component": "mlp.shared_experts.down_proj"}
    routed = {**dense, "row": 7, "expert_id": 0, "component": "mlp.experts"}
    chosen = select_neurons(table, [shared, dense, routed], [[1, 3]])
    rows = [[record["row"] for record in own] for own in chosen.super_weights]
    assert rows == [[5], [6], [7]] and chosen.component.tolist() == ["", "shared_expert", ""]
    only = select_neurons(table, [shared])
    assert only.component.tolist() == ["shared_expert"] and only.super_weights[0] == [shared]


MOMENTS = [f"{kind}{name}" for kind in ("", "cos_") for name in ("mean", "var", "skew", "kurt")]


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_neurons_are_selected_by_any_moment(random, order):
    table = pd.DataFrame({"layer": np.repeat([0, 1], 50), "expert": pd.array([None] * 100, "Int64"), "component": "",
                          "neuron": np.tile(np.arange(50), 2), "norm": random.random(100)})  # fmt: skip
    table[MOMENTS] = random.standard_normal((100, 8))
    table.loc[7, MOMENTS] = np.nan
    chosen = select_neurons(table, top_k=3, order=order)
    column = {"mean": "mean", "variance": "var", "skew": "skew", "kurtosis": "kurt", "norm": "norm"}[
        order.split("_")[-1]
    ]
    column = f"cos_{column}" if "cosine" in order else column
    least = order.startswith(("negative", "low"))
    for layer in (0, 1):
        values = table[table.layer == layer].set_index("neuron")[column]
        wanted = (values.nsmallest(3) if least else values.nlargest(3)).index
        assert sorted(chosen.neuron[chosen.layer == layer]) == sorted(wanted)
    assert (chosen.selected_by == f"top {order}").all()


def test_vectors_do_not_change_the_weights(random):
    W_down = torch.from_numpy(random.standard_normal((D, N))).float()
    before = W_down.clone()
    vectors_of(W_down, torch.full((D,), 2.0), 0.5)
    fold(W_down, torch.full((N,), 2.0), centred=True)
    assert torch.equal(W_down, before)
