"""Figures of weights draw what the tables hold."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
import torch
from drawn_weights import elements, made, parts_of

from weight_atlas.figures import weights as figures
from weight_atlas.figures.tensor_views import tensor_panels
from weight_atlas.spectra.choice import choose_matrices
from weight_atlas.weights.cdf import PROBABILITIES, value_cdf, weight_cdf
from weight_atlas.weights.density import role_densities
from weight_atlas.weights.statistics import weight_statistics
from weight_atlas.weights.summaries import by_layer
from weight_atlas.weights.tensor_views import tensor_views


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def texts(figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in (*axis.texts, axis.title)]


@pytest.mark.parametrize("layers", [0, 1, 3, pytest.param(40, marks=pytest.mark.slow)])
def test_figures_draw_what_the_tables_hold(layers):
    tensors = made(layers=max(layers, 2))
    if not layers:
        tensors = {key: tensor for key, tensor in tensors.items() if key[1] is None}
    elif layers == 1:
        tensors = {key: tensor for key, tensor in tensors.items() if key[1] in (None, 1)}
    parts = parts_of(tensors)
    statistics = by_layer(weight_statistics(parts))
    cdf = figures.cdf_by_role(weight_cdf(parts))
    matrices = {key[0] for key, tensor in tensors.items() if tensor.ndim == 2}
    assert {f"{role}, full range" for role in matrices} <= set(texts(cdf))
    query = [axis for axis in cdf.axes if axis.get_title() == "W_Q, full range"]
    if layers:
        assert len([line for line in query[0].lines if len(line.get_xdata()) > 2]) == layers + 1
    assert {f"{role}\n" for role in matrices} <= set(texts(figures.histograms_by_role(role_densities(parts))))
    by_depth, kurtosis = figures.statistics_by_layer(statistics), figures.kurtosis_by_layer(statistics)
    if not layers:
        assert "no weight matrices in layers" in texts(by_depth) + texts(kurtosis)
        return
    lines = {line.get_label(): line for line in by_depth.axes[1].lines}
    assert set(lines) == {"W_Q", "W_down"}
    expected = statistics[statistics["role"] == "W_Q"]["std"]
    assert lines["W_Q"].get_ydata() == pytest.approx(expected)
    assert any("W_down, layer 1" in text for text in texts(kurtosis)), "the outlier is named"


def test_a_far_outlier_switches_to_a_symmetric_logarithmic_axis():
    plain, far = (figures.cdf_by_role(weight_cdf(parts_of(made(outlier=size)))) for size in (0.05, 50.0))
    scales = [
        next(axis.get_xscale() for axis in figure.axes if axis.get_title() == "W_down, full range")
        for figure in (plain, far)
    ]
    assert scales == ["linear", "symlog"]


def test_one_distribution_in_two_panels():
    values, counts = np.unique(np.random.default_rng(0).standard_normal(1000), return_counts=True)
    figure = figures.value_cdf_panels(value_cdf(values, counts), "token weight")
    full, zoom = figure.axes
    assert full.get_xlabel() == zoom.get_xlabel() == "token weight"
    low, high = np.quantile(values, [0.05, 0.95])
    assert (zoom.lines[0].get_xdata().min(), zoom.lines[0].get_xdata().max()) == pytest.approx((low, high))
    assert [line.get_xdata()[0] for line in full.lines[1:]] == pytest.approx([np.median(values), high])
    nothing = figures.value_cdf_panels(value_cdf(np.zeros(0), np.zeros(0, dtype=int)), "token weight")
    assert "no token weight to draw" in texts(nothing)


def test_no_matrices_is_said():
    parts = parts_of({("norm", 0, None): torch.ones(5)})
    assert "no weight matrices" in texts(figures.cdf_by_role(weight_cdf(parts)))
    densities = figures.histograms_by_role(role_densities(parts))
    assert "no weight matrices with a spread of values" in texts(densities)
    assert "no weight matrices in layers" in texts(figures.statistics_by_layer(by_layer(weight_statistics(parts))))


def test_a_chosen_tensor_is_drawn_whole():
    parts = parts_of(made())
    statistics = weight_statistics(parts)
    fused = [part.assign(tensor=part["tensor"].where(part["role"] != "W_Q", "fused")) for part in parts]
    table = statistics.assign(tensor=statistics["tensor"].where(statistics["role"] != "W_Q", "fused"))
    choices = ["W_Q:1", "fused", "W_K:0", "0.norm.None"]
    single, whole, norm = tensor_views(fused, table, choices, choose_matrices)
    assert (single.name, whole.name, norm.name) == ("1.W_Q.None", "fused", "0.norm.None")
    x = elements(made(), "W_Q", 1)
    assert single.statistics["Excess kurtosis"] == pytest.approx(scipy.stats.kurtosis(x), rel=1e-10)
    assert single.statistics["KS distance"] == pytest.approx(
        scipy.stats.kstest(x, "norm", args=(x.mean(), x.std())).statistic
    )
    x = elements(made(), "W_Q")
    assert (whole.statistics["Elements"], whole.statistics["Maximum"]) == (len(x), x.max())
    assert whole.cdf["value"].tolist() == pytest.approx(np.quantile(x, PROBABILITIES).tolist())
    assert (whole.density["density"] * (whole.density["right"] - whole.density["left"])).sum() == pytest.approx(1)
    figure = tensor_panels([single, whole])
    assert "Std dev: " in figure.axes[0].texts[0].get_text() and figure.axes[2].get_title() == "fused"
    plt.close(figure)
    plt.close(tensor_panels([]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(8, 8), (60, 70), pytest.param((300, 400), marks=pytest.mark.slow)])
def test_densities_keep_their_extremes_unless_they_are_far_out(shape, dtype):
    weights = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.02).to(dtype)
    density = role_densities(parts_of({("W_Q", 0, None): weights}))
    assert (density["left"].iloc[0], density["right"].iloc[-1]) == (weights.min().item(), weights.max().item())
    assert density["beyond"].iloc[0] == 0 and density["right"].iloc[-1] < 8 * density["std"].iloc[0]
    assert "outside" not in "".join(texts(figures.histograms_by_role(density)))
    weights[0, 0] = 40.0
    density = role_densities(parts_of({("W_Q", 0, None): weights}))
    if weights.numel() > 100:
        assert density["beyond"].iloc[0] * weights.numel() == pytest.approx(1, abs=1e-6)
        assert density["left"].iloc[0] == weights.min().item()
