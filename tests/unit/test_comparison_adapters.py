"""Adapters, compared as what they make of their model and with each other."""

import numpy as np
import pytest
import torch
from compared_models import DOWN, Q, lora, name, tables, weights, write
from safetensors.torch import load_file


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
