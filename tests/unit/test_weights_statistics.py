"""Tables of statistics, CDFs and densities, against the same numbers from all elements."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from drawn_weights import elements, made, parts_of

from weight_atlas.figures import weights as figures
from weight_atlas.weights import pooling
from weight_atlas.weights.cdf import PROBABILITIES, value_cdf, weight_cdf
from weight_atlas.weights.density import role_densities
from weight_atlas.weights.depth_trends import depth_trends
from weight_atlas.weights.distribution import BINNED, EXACT, PERCENTILES, percentile_column
from weight_atlas.weights.pooling import Pool
from weight_atlas.weights.statistics import weight_statistics
from weight_atlas.weights.stored_tensors import stored_statistics
from weight_atlas.weights.summaries import by_layer, by_role
from weight_atlas.weights.value_histogram import value_histogram


def test_statistics_of_each_tensor():
    tensors = made()
    table = weight_statistics(parts_of(tensors))
    assert len(table) == len(tensors) and not {"values", "counts"} & set(table)
    for row, tensor in zip(table.itertuples(), tensors.values(), strict=True):
        x = tensor.double().numpy().ravel()
        q25, q75 = np.percentile(x, [25, 75])
        for share, reach in ((row.outlier_share, 1.5), (row.extreme_share, 3)):
            low, high = q25 - reach * (q75 - q25), q75 + reach * (q75 - q25)
            assert share == ((x < low) | (x > high)).mean()
        assert row.rms == pytest.approx(np.sqrt((x**2).mean()), rel=1e-12)
        assert row.dynamic_range == pytest.approx(np.abs(x).max() / np.abs(x).mean(), rel=1e-12)
        assert row.ks_distance == pytest.approx(scipy.stats.kstest(x, "norm", args=(x.mean(), x.std())).statistic)
        assert row.flags == ""
    outlier = table.set_index("id").loc["1.W_down.0"]
    assert (outlier.absmax_row, outlier.absmax_col) == (3, 5)
    assert outlier.dynamic_range > 2 * outlier.dynamic_range_null


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_nan_infinite_constant_and_empty_tensors(dtype):
    tensors = {
        ("W_Q", 0, None): torch.tensor([[1.0, 2.0, float("nan")], [3.0, float("inf"), 4.0]]),
        ("W_K", 0, None): torch.full((3, 3), float("nan")),
        ("W_V", 0, None): torch.full((3, 3), 0.5),
        ("W_O", 0, None): torch.zeros((0, 3)),
        ("W_U", 0, None): torch.zeros((2, 3)),
    }
    parts = parts_of({key: tensor.to(dtype) for key, tensor in tensors.items()})
    table = weight_statistics(parts).set_index("role")
    assert table["flags"].tolist() == ["nan inf", "nan", "", "", ""]
    assert (table.loc["W_Q", "mean"], table.loc["W_Q", "n"], table.loc["W_Q", "rms"]) == (2.5, 6, 7.5**0.5)
    assert (
        table.loc[["W_K", "W_O"], ["mean", "rms", "ks_distance", "dynamic_range", "outlier_share"]]
        .isna()
        .all(axis=None)
    )
    assert table.loc["W_V", ["std", "outlier_share", "dynamic_range"]].tolist() == [0, 0, 1]
    assert np.isnan(table.loc["W_U", "dynamic_range"])
    roles = by_role(table.reset_index()).set_index("role")
    assert roles["not_finite"].tolist() == [2, 9, 0, 0, 0]
    assert (roles.loc["W_Q", "mean"], roles.loc["W_K", "absmax_id"]) == (2.5, "")
    layer = by_layer(table.reset_index()).set_index("role").loc["all"]
    assert (layer.tensors, layer.n, layer["not_finite"]) == (5, 30, 11)
    assert layer["mean"] == pytest.approx((10 + 9 * 0.5) / 19)
    assert weight_cdf(parts)["role"].unique().tolist() == ["W_Q", "W_V", "W_U"]
    assert role_densities(parts)["role"].unique().tolist() == ["W_Q"]
    for figure in (figures.cdf_by_role(weight_cdf(parts)), figures.histograms_by_role(role_densities(parts))):
        figure.draw_without_rendering()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_summaries_are_the_statistics_of_all_elements(dtype):
    tensors = made(dtype)
    statistics = weight_statistics(parts_of(tensors))
    tables = [(row, -1) for row in by_role(statistics).itertuples()]
    tables += [(row, row.layer) for row in by_layer(statistics).itertuples()]
    assert [row.role for row, layer in tables if layer == -1] == ["W_E", "norm", "W_Q", "W_down"]
    assert [(row.layer, row.role) for row, layer in tables if layer != -1] == [
        (layer, role) for layer in range(3) for role in ("W_Q", "W_down", "all")
    ]
    for row, layer in tables:
        x = elements(tensors, row.role, layer)
        assert (row.n, row.min, row.max) == (len(x), x.min(), x.max())
        assert row.mean == pytest.approx(x.mean(), rel=1e-10)
        assert row.std == pytest.approx(x.std(), rel=1e-10)
        assert row.skew == pytest.approx(scipy.stats.skew(x), rel=1e-9, abs=1e-12)
        assert row.kurtosis == pytest.approx(scipy.stats.kurtosis(x), rel=1e-9, abs=1e-12)
        assert row.zeros_share == (x == 0).mean()
    down = by_role(statistics).set_index("role").loc["W_down"]
    assert (down["absmax_id"], down["tensors"]) == ("1.W_down.0", 6)


def test_cdf_of_values():
    weights = np.random.default_rng(0).standard_normal(5000).astype(np.float32).astype(float)
    cdf = value_cdf(*np.unique(weights, return_counts=True))
    assert cdf["value"].tolist() == pytest.approx(np.quantile(weights, PROBABILITIES).tolist(), rel=1e-14)
    assert (cdf["value"].iloc[0], cdf["value"].iloc[-1]) == (weights.min(), weights.max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_cdf_of_roles_and_layers(dtype):
    tensors = made(dtype)
    cdf = weight_cdf(parts_of(tensors))
    assert cdf["role"].unique().tolist() == ["W_E", "W_Q", "W_down"], "vectors are left out"
    assert cdf.groupby("role").layer.nunique().tolist() == [0, 3, 3]
    for (role, layer), line in cdf.groupby(["role", "layer"], dropna=False):
        x = elements(tensors, role, -1 if pd.isna(layer) else layer)
        assert line["n"].unique().tolist() == [len(x)]
        assert line["value"].tolist() == pytest.approx(np.quantile(x, PROBABILITIES).tolist(), rel=1e-12)


def test_probabilities_are_decimals_and_repeat_the_exact_percentiles():
    weights = (torch.randn(400, 400, generator=torch.Generator().manual_seed(1)) * 0.02).double().float()
    parts = parts_of({("W_E", None, None): weights, ("norm", 0, None): weights[0]})
    assert parts[0]["distribution"].iloc[0] == BINNED
    cdf, statistics = weight_cdf(parts), weight_statistics(parts).iloc[0]
    for percentile in PERCENTILES:
        line = cdf[cdf["probability"] == float(f"{percentile}e-2")]
        assert line["value"].tolist() == [statistics[percentile_column(percentile)]], percentile
    assert (cdf["value"].iloc[0], cdf["value"].iloc[-1]) == (statistics["min"], statistics["max"])
    assert cdf["value"].is_monotonic_increasing and cdf["probability"].is_monotonic_increasing
    expected = np.quantile(weights.double().numpy(), PROBABILITIES)
    np.testing.assert_allclose(cdf["value"], expected, rtol=1 / 128, atol=1e-9)
    assert {0.999, 0.9999, 0.07, 0.29, 0.57} <= set(cdf["probability"])


def test_tensors_without_a_role_are_never_put_together():
    random = torch.Generator().manual_seed(0)
    tensors = {
        ("W_Q", 0, None): torch.randn(20, 30, generator=random),
        **{("other", layer, None): torch.randn(7, 9, generator=random) + 5 * layer for layer in range(3)},
        ("other", None, 0): torch.rand(500, generator=random),
        ("other", None, 1): torch.rand(4, 1, generator=random) > 0.5,
    }
    parts = parts_of(tensors)
    statistics, cdf, density = weight_statistics(parts), weight_cdf(parts), role_densities(parts)
    names = [f"{layer}.other.{expert}" for _, layer, expert in tensors][1:]
    roles = by_role(statistics).set_index("tensor")
    assert list(roles.index) == ["", *names] and (roles["tensors"] == 1).all()
    assert by_layer(statistics)["role"].tolist() == ["W_Q", "all"]
    for (_, layer, expert), name in zip(list(tensors)[1:], names, strict=True):
        x = tensors["other", layer, expert].double().numpy().ravel()
        line, bins = cdf[cdf["tensor"] == name], density[density["tensor"] == name]
        np.testing.assert_allclose(line["value"], np.quantile(x, PROBABILITIES), rtol=1e-6, atol=1e-12)
        assert set(line["n"]) == set(bins["n"]) == {x.size} and line["layer"].isna().all()
        assert roles.loc[name, "mean"] == pytest.approx(x.mean()) and bins["mean"].iloc[0] == pytest.approx(x.mean())
    for figure in (figures.cdf_by_role(cdf), figures.histograms_by_role(density)):
        titles = [axis.get_title().strip().removesuffix(", full range") for axis in figure.axes]
        assert {"W_Q", *names} <= set(titles) and "other" not in titles


def test_many_tensors_without_a_role_are_drawn_up_to_a_number():
    tensors = {("other", None, index): torch.randn(4 + index, 5) for index in range(30)}
    cdf = weight_cdf(parts_of(tensors))
    figure = figures.cdf_by_role(cdf)
    shown = [axis for axis in figure.axes if axis.get_title().endswith("full range")]
    assert cdf["tensor"].nunique() == 30 and len(shown) == 12
    assert "18 smaller tensors without a role are in the table only" in figure.get_suptitle()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_pools_are_the_elements_together(monkeypatch, dtype):
    monkeypatch.setattr(pooling, "_WAITING_VALUES", 30_000)
    tensors = [(torch.randn(70_000, generator=torch.Generator().manual_seed(s)) * 0.02).to(dtype) for s in range(5)]
    for tensor in tensors:
        tensor[:100] = 0
        tensor[100:120] = 1e-42
    pool = Pool()
    for tensor in tensors:
        found = value_histogram(tensor)
        pool.add(found.values, found.counts, found.kind)
    together = value_histogram(torch.cat(tensors))
    values, counts = pool.distribution()
    assert pool.kind == together.kind == (EXACT if dtype == torch.float16 else BINNED)
    assert np.array_equal(counts, together.counts)
    assert values == pytest.approx(together.values, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_densities_are_shares_of_the_elements(dtype):
    random = torch.Generator().manual_seed(0)
    tensors = {("W_Q", layer, None): (torch.randn(300, 300, generator=random) * 0.02).to(dtype) for layer in range(2)}
    tensors["W_Q", 0, None][0, 0] = 5.0
    tensors["W_K", 0, None] = (torch.rand(300, 300, generator=random) * 0.02).to(dtype)
    density = role_densities(parts_of(tensors))
    for role, bins in density.groupby("role"):
        x = elements(tensors, role)
        width = bins["right"] - bins["left"]
        share = np.histogram(x, np.append(bins["left"], bins["right"].iloc[-1]))[0] / len(x)
        # Values on the grid of the type are spread over what rounds to them: bins exchange a few with their neighbours.
        assert (bins["density"] * width).to_numpy() == pytest.approx(share, abs=6e-3)
        assert (bins["density"] * width).sum() + bins["beyond"].iloc[0] == pytest.approx(1, abs=1e-12)
        assert bins["std"].iloc[0] == pytest.approx(x.std(), rel=1e-3)
    normal = density[density["role"] == "W_Q"]
    assert normal["right"].max() < 1, "one outlier does not stretch the range"
    assert normal["beyond"].iloc[0] * 180_000 == pytest.approx(1, abs=0.5)
    sigma = normal["std"].iloc[0]
    edges = np.append(normal["left"], normal["right"].iloc[-1])
    share = np.diff(scipy.stats.norm.cdf(edges, normal["mean"].iloc[0], sigma))
    assert (normal["normal"] * (normal["right"] - normal["left"])).to_numpy() == pytest.approx(share, rel=1e-9)
    assert role_densities(parts_of(tensors), ["W_K"])["role"].unique().tolist() == ["W_K"]


def test_densities_show_no_grid_of_the_type():
    weights = (torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
    density = role_densities(parts_of({("W_Q", 0, None): weights}))
    body = density[(density["left"].abs() < 0.05) & (density["right"].abs() < 0.05)]
    assert (body["density"] / body["normal"]).to_numpy() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_magnitudes_shares_and_entropy(dtype):
    tensors = made(dtype)
    table = weight_statistics(parts_of(tensors))
    for row, tensor in zip(table.itertuples(), tensors.values(), strict=True):
        x = tensor.double().numpy().ravel()
        assert row.mean_magnitude == pytest.approx(np.abs(x).mean(), rel=1e-12)
        assert (row.zeros_share, row.near_zeros_1e_2_share) == ((x == 0).mean(), (np.abs(x) <= 1e-2).mean())
        assert row.abs_p50 == pytest.approx(np.median(np.abs(x)), rel=1e-12)
        assert row.abs_p99_9 == pytest.approx(np.percentile(np.abs(x), 99.9), rel=1e-12)
        shares = np.unique(x, return_counts=True)[1] / len(x)
        assert row.entropy == pytest.approx(scipy.stats.entropy(shares, base=2), rel=1e-12)
    normal = weight_statistics(parts_of({("W_Q", 0, None): torch.randn(1000, 1000).to(torch.bfloat16)})).iloc[0]
    assert normal["entropy"] == pytest.approx(normal["entropy_null"], abs=0.02)


def test_a_fused_tensor_as_it_is_stored():
    whole = torch.randn(3, 40, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = (whole * torch.tensor([0.02, 0.05, 0.4])[:, None, None]).to(torch.bfloat16)
    parts = parts_of({("W_Q", 0, None): whole[0], ("W_K", 0, None): whole[1], ("W_V", 0, None): whole[2]})
    assert stored_statistics(parts).empty, "each is stored by itself"
    fused = [part.assign(tensor="h.0.attn.c_attn.weight") for part in parts]
    (row,) = stored_statistics(fused).itertuples()
    x = whole.double().numpy().ravel()
    assert (row.pieces, row.roles, row.n, row.min, row.max) == (3, "W_Q W_K W_V", x.size, x.min(), x.max())
    assert (row.mean, row.std) == pytest.approx((x.mean(), x.std()), rel=1e-12)
    assert row.kurtosis == pytest.approx(scipy.stats.kurtosis(x), rel=1e-10)
    assert row.ks_distance == pytest.approx(scipy.stats.kstest(x, "norm", args=(x.mean(), x.std())).statistic)


def test_trends_with_depth():
    tensors = {}
    for layer in range(12):
        noise = torch.randn(20, 20, generator=torch.Generator().manual_seed(layer))
        tensors["W_Q", layer, None], tensors["W_V", layer, None] = noise * 0.02 * (layer + 1), noise * 0.02
    table = depth_trends(weight_statistics(parts_of(tensors)))
    assert len(table) == 6
    growing = table[(table["role"] == "W_Q") & (table["measure"] == "std")].iloc[0]
    assert (
        growing["trend"] == "up"
        and growing["tau"] == pytest.approx(1)
        and growing["slope"] == pytest.approx(0.02, rel=0.1)
    )
    assert growing["slope_low"] < 0.02 < growing["slope_high"] and growing["q"] >= growing["p"]
    assert set(table[table["role"] == "W_V"]["trend"]) == {"none"}
    few = {key: tensor for key, tensor in tensors.items() if key[1] < 2}
    assert depth_trends(weight_statistics(parts_of(few))).empty
