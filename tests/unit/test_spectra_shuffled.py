"""The permutation null: spikes of single large elements stay when elements are shuffled, spikes of correlation go."""

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.settings.spectra import Tails
from weight_atlas.spectra import shuffled as module
from weight_atlas.spectra.heavy_tails import heavy_tails
from weight_atlas.spectra.shuffled import KEPT, SEED, shuffled_sigma
from weight_atlas.spectra.table import singular_value_table

QUICK = Tails(bootstrap=0)


def noise(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.02


def low_rank(rows, columns, rank, size, seed=1):
    """Correlated rows and columns: `rank` singular values of `size` beside the noise."""
    left, right = noise(rows, rank, seed), noise(columns, rank, seed + 1)
    return size * torch.linalg.qr(left).Q @ torch.linalg.qr(right).Q.T


def spectra(*weights, threads=1):
    rows = pd.DataFrame({"rows": [len(weight) for weight in weights], "cols": [w.shape[1] for w in weights]})
    rows = rows.assign(id=[f"m{index}" for index in range(len(weights))], tensor="t", role="W_Q", stack="decoder")
    rows = rows.assign(layer=range(len(weights)), expert=pd.NA, dtype="BF16", place=range(len(weights)))
    return singular_value_table(rows, lambda row: weights[row.place], threads=threads)


def judged(*weights):
    return heavy_tails(spectra(*weights), QUICK)


def test_it_is_the_spectrum_of_some_permutation():
    """By full SVD of the same elements in another order: the same energy, the same elements, other singular values."""
    weight = noise(40, 60) + low_rank(40, 60, 2, 3.0)
    random = np.random.default_rng(SEED)
    elements = (weight / weight.abs().max()).numpy().astype(np.float32)
    random.shuffle(elements.reshape(-1))
    wanted = np.linalg.svd(elements.astype(float), compute_uv=False) * float(weight.abs().max())
    np.testing.assert_allclose(shuffled_sigma(weight), wanted[:KEPT], rtol=1e-6)
    assert np.linalg.norm(wanted) == pytest.approx(float(weight.norm()), rel=1e-6)


@pytest.mark.parametrize("shape", [(90, 130), (130, 90)])
def test_lanczos_finds_what_the_full_decomposition_finds(monkeypatch, shape):
    weight = noise(*shape)
    weight[3, 5] = 3.0
    whole = shuffled_sigma(weight)
    monkeypatch.setattr(module, "SMALL", 20)
    found = shuffled_sigma(weight)
    np.testing.assert_allclose(found, whole, rtol=1e-3)
    assert (found == shuffled_sigma(weight)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_values_and_positions_are_told_apart(dtype):
    spiked, large, both = (noise(120, 160, seed) for seed in range(3))
    spiked, both = spiked + low_rank(120, 160, 3, 1.5), both + low_rank(120, 160, 2, 1.5)
    for weight in (large, both):
        weight[7, 11], weight[60, 3] = 2.0, -1.7
    shifted = noise(120, 160, 4) + 0.01  # the mean alone: a spike of 0.01 sqrt(120 * 160)
    table = judged(*[weight.to(dtype) for weight in (spiked, large, both, shifted, noise(120, 160, 5))])
    assert list(table["mp_spikes"]) == [3, 2, 4, 1, 0]
    assert list(table["correlated_spikes"][:4]) == [3, 0, 2, 0] and pd.isna(table["correlated_spikes"][4])
    assert list(table["spikes_of"].fillna("")) == ["positions", "values", "both", "values", ""]
    edge = float(spiked.norm()) / 120**0.5 + float(spiked.norm()) / 160**0.5
    assert table["shuffled_lambda_max"][0] == pytest.approx(edge**2, rel=0.1)
    assert table["shuffled_lambda_max"][1] == pytest.approx(4.0, rel=0.05)
    assert np.isnan(table["shuffled_lambda_max"][4])


def test_larger_rows_are_positions_and_so_are_large_elements_of_one_row():
    rows, channel = noise(100, 150), noise(100, 150, 1)
    rows[:6] *= 8
    channel[30, ::12] = 1.0
    assert list(judged(rows, channel)["spikes_of"]) == ["positions", "positions"]


def test_a_strong_correlation_does_not_hide_a_weak_one():
    weight = noise(200, 300) + low_rank(200, 300, 1, 60.0) + low_rank(200, 300, 2, 1.5, 7)
    assert list(judged(weight)["correlated_spikes"]) == [3]


def test_a_correlation_beside_a_smaller_element():
    weight = noise(200, 300) + low_rank(200, 300, 1, 4.0)
    weight[3, 4] = 2.0
    assert list(judged(weight)[["mp_spikes", "correlated_spikes"]].iloc[0]) == [2, 1]


def test_heavy_tailed_elements_are_values():
    weight = torch.from_numpy(np.random.default_rng(0).standard_t(2.2, (200, 300)))
    (row,) = judged(weight).itertuples()
    assert row.mp_spikes > KEPT and row.correlated_spikes <= 1


def test_rows_and_columns_of_zeros_change_nothing():
    weight = noise(100, 150)
    weight[4, 9] = 2.5
    padded = torch.zeros(190, 400, dtype=weight.dtype)
    padded[20:120, 50:200] = weight
    plain, wide = spectra(weight), spectra(padded)
    np.testing.assert_allclose(plain["shuffled"][0], wide["shuffled"][0], rtol=1e-12)
    assert judged(padded)["spikes_of"][0] == "values"


def test_there_may_be_more_spikes_than_are_kept():
    weight = noise(150, 200) + low_rank(150, 200, KEPT + 5, 2.0)
    (row,) = judged(weight).itertuples()
    assert row.mp_spikes == row.correlated_spikes == KEPT + 5 and row.spikes_of == "positions"


def test_nothing_is_drawn_without_a_spectrum_or_spikes():
    broken = noise(30, 40)
    broken[2, 2] = float("nan")
    weights = [torch.zeros(30, 40), broken, noise(30, 40), torch.zeros(0, 8), torch.full((20, 30), -0.0)]
    assert [len(each) for each in spectra(*weights)["shuffled"]] == [0] * len(weights)
    assert list(judged(*weights)["spikes_of"].isna()) == [True] * len(weights)


@pytest.mark.parametrize("scale", [1e-310, 1e-30, 1e30, 1e150])
def test_any_scale(scale):
    weight = noise(60, 80) * 50
    weight[1, 2] = 100.0
    np.testing.assert_allclose(shuffled_sigma(weight * scale), shuffled_sigma(weight) * scale, rtol=1e-5)


def test_threads_change_nothing():
    weights = [noise(50, 60, seed) + low_rank(50, 60, 1, 2.0, seed) for seed in range(4)]
    one, four = spectra(*weights), spectra(*weights, threads=4)
    assert all((a == b).all() for a, b in zip(one["shuffled"], four["shuffled"], strict=True))
    assert len({each[0] for each in one["shuffled"]}) == 4
