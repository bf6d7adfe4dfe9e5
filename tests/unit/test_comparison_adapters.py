"""Adapters, compared as what they make of their model and with each other."""

import numpy as np
import pytest
import torch
from compared_models import DOWN, Q, lora, name, said, tables, weights, write
from safetensors.torch import load_file

from weight_atlas.errors import AtlasError


@pytest.mark.parametrize("magnitudes", [False, True])
def test_an_adapter_is_compared_as_what_it_makes_of_its_model(tmp_path, magnitudes):
    adapter, merged = lora(tmp_path, magnitudes=magnitudes)
    made = tables(write(tmp_path / "base", weights()), adapter)
    assert made.table["id_a"].tolist() == [name(0, Q), name(1, DOWN)]
    for row in made.table.itertuples():
        weight = weights()[row.id_a].double()
        delta = merged[row.id_a] - weight
        assert row.relative == pytest.approx(float(delta.norm() / weight.norm()), rel=1e-5)
        assert row.signs == int((torch.signbit(merged[row.id_a].float()) != torch.signbit(weight)).sum())
        assert row.method == ("gram" if magnitudes else "factors")
    sigma = torch.linalg.svdvals(merged[name(1, DOWN)] - weights()[name(1, DOWN)].double()).numpy()
    assert np.allclose(made.tensors["sigma"].iloc[1], sigma, atol=1e-6 * sigma[0])
    assert made.table["lora_error_4"].max() < 1e-6 or magnitudes
    heads = made.heads[made.heads["role"] == "W_Q"]
    wanted = (merged[name(0, Q)] - weights()[name(0, Q)].double()).reshape(4, -1).norm(dim=1).numpy()
    assert np.allclose(heads["norm_d"], wanted, rtol=1e-5)


@pytest.mark.slow
def test_two_adapters_are_compared_by_their_updates(tmp_path):
    one, other = lora(tmp_path)[0], lora(tmp_path, scale=2.0, seed=21)[0]
    made = tables(one, other)
    assert made.table["role"].tolist() == ["W_Q", "W_down"]
    updates = []
    for adapter, scale in ((one, 0.5), (other, 2.0)):
        stored = load_file(adapter.checkpoint.folder / "adapter_model.safetensors")
        place = f"base_model.model.{name(0, Q)}".removesuffix(".weight")
        updates.append(scale * stored[f"{place}.lora_B.weight"].double() @ stored[f"{place}.lora_A.weight"].double())
    assert made.table["norm_d"].iloc[0] == pytest.approx(float((updates[1] - updates[0]).norm()), rel=1e-5)
    sigma = torch.linalg.svdvals(updates[1] - updates[0]).numpy()
    assert np.allclose(made.tensors["sigma"].iloc[0], sigma, atol=1e-9)
    assert tables(one, one).summary["relation"] == "identical"


def with_more(folder, more, **config):
    """The adapter of `lora`, with more tensors in its file and other settings."""
    folder.mkdir(exist_ok=True)
    adapter, merged = lora(folder)
    stored = load_file(adapter.checkpoint.folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 2.0, **config}
    return write(folder / "more", {**stored, **more}, file="adapter_model.safetensors", **settings), merged


def test_what_an_adapter_stores_whole_is_compared_too(tmp_path):
    """PEFT's modules_to_save and biases; a bias of an update is no bias of the model."""
    place = f"base_model.model.{name(0, Q)}".removesuffix(".weight")
    head = (weights()["lm_head.weight"].float() * 1.5).bfloat16()
    more = {
        "base_model.model.lm_head.weight": head,
        f"base_model.model.{name(0, 'input_layernorm.weight')}": torch.full((64,), 2.0),
        f"{place}.lora_B.bias": torch.ones(64),
    }
    adapter, _ = with_more(tmp_path, more, modules_to_save=["lm_head"], lora_bias=True)
    base = write(tmp_path / "base", weights())
    made = tables(base, adapter)
    assert set(made.table["id_a"]) == {name(0, Q), name(1, DOWN), "lm_head.weight", name(0, "input_layernorm.weight")}
    assert made.table.set_index("id_a")["relative"]["lm_head.weight"] == pytest.approx(0.5, abs=1e-3)
    assert made.alone[["id", "reason"]].values.tolist() == [
        [f"{place}.lora_B.bias", "what it does to the model is not compared"]
    ]
    assert made.summary["relation"] == "adapter"
    assert said(made)[0].startswith("other is an adapter to base, and changes 4 of its tensors (together relative ")
    assert not [text for text in said(made) if "num_hidden_layers" in text]  # no config.json is no difference
    back = tables(adapter, base)
    assert said(back)[0].startswith("base is an adapter to other, and changes 4 of its tensors")
    other, _ = with_more(tmp_path / "b", {"base_model.model.lm_head.weight": weights()["lm_head.weight"]})
    assert tables(adapter, other).table.set_index("id_a")["changed"]["base_model.model.lm_head.weight"] > 0


@pytest.mark.parametrize("alpha", [0, 2])
def test_an_adapter_that_changes_nothing_says_so(tmp_path, alpha):
    adapter, _ = lora(tmp_path)
    stored = load_file(adapter.checkpoint.folder / "adapter_model.safetensors")
    fresh = {key: value * (0 if "lora_B" in key and alpha else 1) for key, value in stored.items()}
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": alpha}
    fresh = write(tmp_path / "fresh", fresh, file="adapter_model.safetensors", **settings)
    made = tables(write(tmp_path / "base", weights()), fresh)
    assert said(made)[0] == "other is an adapter to base that changes nothing: its update of 2 tensors is zero."


def test_changes_of_other_kinds_are_refused_by_what_they_are(tmp_path):
    base, place = write(tmp_path / "base", weights()), f"base_model.model.{name(0, Q)}".removesuffix(".weight")
    for tensors, settings in (
        ({f"{place}.ia3_l": torch.ones(64, 1)}, {"peft_type": "IA3", "feedforward_modules": []}),
        (
            {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(2, 64)},
            {"peft_type": "TRAINABLE_TOKENS", "token_indices": [1, 2]},
        ),
    ):
        adapter = write(tmp_path / "other", tensors, file="adapter_model.safetensors", **settings)
        with pytest.raises(AtlasError, match="in a way that cannot be compared"):
            tables(base, adapter)
