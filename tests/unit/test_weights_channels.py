"""Rows and columns of matrices, channels that stand out, windows and their figures."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.figures.weight_profile import heat_maps, norms_by_layer, variances_by_layer, windows
from weight_atlas.settings.weights import WeightProfile
from weight_atlas.spectra.choice import choose_matrices
from weight_atlas.weights.channels import channel_table, layer_variances, row_variances
from weight_atlas.weights.matrix_windows import cell_map, of_rows, rows_of, values_of, window_parts, window_places
from weight_atlas.weights.profile import Profiler
from weight_atlas.weights.profile_table import ProfileParts
from weight_atlas.weights.stored_types import stored_as
from weight_atlas.weights.streaming import Reading


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02).to(torch.bfloat16)


def profiles(tensors: dict[tuple[str, int | None], torch.Tensor]):
    ids = [f"{role}.{layer}" for role, layer in tensors]
    table = pd.DataFrame({"id": ids, "tensor": ids, "role": [role for role, _ in tensors]})
    table = table.assign(layer=[layer for _, layer in tensors], piece="", stack="decoder", expert=None, dtype="BF16")
    table = table.assign(component="", n_heads=None, head_dim=None, rows=[len(x) for x in tensors.values()])
    table["cols"] = [tensor.shape[1] for tensor in tensors.values()]
    parts: list[pd.DataFrame] = []
    read = []
    for name, tensor in zip(ids, tensors.values(), strict=True):
        dtype, flat = stored_as(tensor)
        profiler = Profiler(dtype, tuple(tensor.shape), 16)
        profiler.add(flat)
        read.append(Reading(name, None, profiler.profile()))
    list(ProfileParts(table, parts.append).passing(read))
    return table, [row for part in parts for row in part.itertuples(index=False)]


def test_variances_and_norms_are_those_of_numpy():
    x = normal(40, 30)
    x[3, 4], x[5] = float("nan"), float("inf")
    _, (profile,) = profiles({("W_Q", 0): x})
    values = np.where(x.double().isfinite(), x.double().numpy(), np.nan)
    with np.errstate(invalid="ignore"):
        expected = np.array([np.nan if np.isnan(row).all() else np.nanvar(row) for row in values])
    assert np.allclose(row_variances(profile), expected, rtol=1e-12, equal_nan=True)
    table, _ = channel_table([profile])
    norms = np.sqrt(np.nansum(values**2, axis=0))
    found = table.loc[0, ["col_norm_min", "col_norm_median", "col_norm_max"]].tolist()
    assert found == pytest.approx([norms.min(), np.median(norms), norms.max()], rel=1e-12)


def test_gaussian_matrices_show_their_nulls_and_no_channel():
    _, found = profiles({("W_Q", 0): normal(600, 400), ("W_K", 0): normal(30, 800, seed=1)})
    table, channels = channel_table(found)
    assert channels.empty and not table[["row_outliers", "col_outliers"]].any(axis=None)
    assert table["row_variance_cv"].tolist() == pytest.approx(table["row_variance_cv_null"].tolist(), rel=0.35)
    for axis in ("row", "col"):
        assert table[f"{axis}_top_energy"].tolist() == pytest.approx(
            table[f"{axis}_top_energy_null"].tolist(), rel=0.25
        )


def test_a_planted_channel_is_found():
    x = normal(200, 300)
    x[:, 17] *= 6
    x[9] *= 3
    _, found = profiles({("W_down", 2): x})
    table, channels = channel_table(found)
    places = list(channels[["axis", "channel"]].itertuples(index=False, name=None))
    assert places == [("row", 9), ("col", 17)]
    norms = np.sqrt((x.double().numpy() ** 2).sum(0))
    assert table.loc[0, "col_outlier_energy"] == pytest.approx(norms[17] ** 2 / (norms**2).sum(), rel=1e-12)
    column = channels.iloc[1]
    assert column["ratio"] == pytest.approx(norms[17] / np.median(norms)) and column["layer"] == 2
    assert column["absmax"] == x[:, 17].abs().max()


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1), (1, 6), (6, 1)])
def test_matrices_of_hardly_any_elements(shape):
    for tensor in (torch.ones(shape), torch.zeros(shape)):
        _, found = profiles({("W_Q", 0): tensor})
        table, channels = channel_table(found)
        assert len(table) == 1 and channels.empty
        plt.close(variances_by_layer(layer_variances(found)))
        plt.close(norms_by_layer(table))
        plt.close(heat_maps([cell_map(found[0])]))
    assert [part.empty for part in channel_table([])] == [True, True]


def test_figures_show_what_the_profile_holds():
    tensors = {(role, layer): normal(48, 40, seed=layer) for role in ("W_Q", "W_down") for layer in range(3)}
    table, found = profiles(tensors)
    variances = layer_variances(found)
    assert variances["W_Q", 1] == pytest.approx(tensors["W_Q", 1].double().numpy().var(1), rel=1e-12)
    figure = variances_by_layer(variances)
    assert len(figure.axes) == 4 and len(figure.axes[1].collections) >= 3
    norms_by_layer(channel_table(found)[0]).draw_without_rendering()
    whole = heat_maps([cell_map(found[0])])
    assert whole.axes[0].get_title() == "W_Q.0: mean of cells of 3 x 3"
    assert whole.axes[0].images[0].get_array().shape == (16, 14)
    places = window_places(table, ["W_down:last@4:10,30:99", "W_E@0:1,0:1", "W_Q.1@50:60,0:5"], choose_matrices)
    found_windows = values_of(places, lambda row: tensors[row.role, row.layer])
    (window,) = found_windows
    assert np.array_equal(of_rows(rows_of(found_windows))[0]["values"], window["values"])
    assert np.array_equal(window["values"], tensors["W_down", 2][4:10, 30:].double().numpy())
    assert window["title"] == "W_down.2, rows 4 to 9, columns 30 to 39"
    drawn = windows(found_windows)
    assert drawn.axes[0].images[0].get_extent() == [29.5, 39.5, 9.5, 3.5], "numbered as in the matrix"
    windows([]).draw_without_rendering()


def test_windows_are_written_in_one_way():
    assert window_parts("a@b.weight@0:300,100:300") == ("a@b.weight", slice(0, 300), slice(100, 300))
    assert WeightProfile(windows=["W_Q:0@0:3,1:3"]).windows
    for wrong in ("W_Q:0", "W_Q@1,2", "W_Q@a:b,c:d", "@0:1,0:1"):
        with pytest.raises(ValueError, match="pattern"):
            WeightProfile(windows=[wrong])


def test_a_wide_spread_of_norms_is_no_channel():
    spread = np.exp(np.random.default_rng(0).normal(0, 0.3, 200))
    x = (normal(200, 300).double() * torch.from_numpy(spread)[:, None]).to(torch.bfloat16)
    _, found = profiles({("W_up", 0): x})
    table, channels = channel_table(found)
    assert table.loc[0, "row_norm_max"] > 1.5 * table.loc[0, "row_norm_median"] and channels.empty
