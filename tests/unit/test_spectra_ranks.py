"""Rank measures, their Gaussian nulls, phases and trends."""

import numpy as np
import pandas as pd
import pytest

from weight_atlas.spectra.nulls import gaussian_shares
from weight_atlas.spectra.ranks import (
    MEASURES,
    effective_ranks,
    gaussian_scatter,
    notebook_view,
    numerical_rank,
    rank_measures,
)
from weight_atlas.spectra.trends import pattern_of, phase_of, phase_table, statistics_by_role, trend_table


def spectra(sigmas, *, role="W_Q", layers=None, shape=None, rounding=0.0, experts=None, method="gram", stack="decoder"):
    """A table of singular values as the artifact has it."""
    layers = range(len(sigmas)) if layers is None else layers
    sigmas = [np.asarray(sigma, dtype=float) for sigma in sigmas]
    shapes = [shape or (len(sigma), len(sigma)) for sigma in sigmas]
    return pd.DataFrame(
        {
            "id": [f"{role}.{index}" for index in range(len(sigmas))],
            "tensor": "t",
            "role": role,
            "stack": stack,
            "layer": pd.array(list(layers), dtype="Int64"),
            "expert": pd.array(experts or [pd.NA] * len(sigmas), dtype="Int64"),
            "rows": [rows for rows, _ in shapes],
            "cols": [columns for _, columns in shapes],
            "dtype": "F32",
            "method": method,
            "error_bound": 1e-14,
            "frobenius": [float(np.sqrt((sigma**2).sum())) for sigma in sigmas],
            "rounding": rounding,
            "zero_rows": 0,
            "zero_cols": 0,
            "sigma": sigmas,
        }
    )


def test_measures_by_their_definitions():
    sigma = np.array([4.0, 2.0, 1.0, 1.0, 0.03])
    p, q = sigma / sigma.sum(), sigma**2 / (sigma**2).sum()
    found = rank_measures(sigma)
    assert found["erank"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-14)
    assert found["erank_energy"] == pytest.approx(np.exp(-(q * np.log(q)).sum()), rel=1e-14)
    assert found["stable_rank"] == pytest.approx((sigma**2).sum() / 16, rel=1e-14)
    assert found["rank_1pct"] == 4
    assert [found[name] for name in ("n50", "n75", "n90", "n95", "n99")] == [1, 2, 2, 3, 4]


def test_known_spectra():
    flat = rank_measures(np.full(37, 2.5))
    assert flat["erank"] == pytest.approx(37) and flat["stable_rank"] == pytest.approx(37)
    one = rank_measures(np.array([3.0, 0, 0]))
    assert one["erank"] == one["erank_energy"] == one["stable_rank"] == one["n99"] == 1
    assert np.isnan(rank_measures(np.zeros(4))["erank"]) and np.isnan(rank_measures(np.empty(0))["n50"])
    assert numerical_rank(np.array([1.0, 1e-9, 1e-17]), 3, 3) == 2
    assert numerical_rank(np.zeros(3), 3, 3) == 0


def test_measures_do_not_depend_on_scale():
    sigma = np.geomspace(1, 1e-3, 50)
    for scale in (1e-200, 1e200):
        assert rank_measures(sigma * scale) == pytest.approx(rank_measures(sigma))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (768, {"erank": 0.805, "erank_energy": 0.606, "n99": 0.77, "stable_rank": 0.25, "rank_1pct": 0.987}),
        (2074, {"erank": 0.948, "erank_energy": 0.830, "n99": 0.949, "stable_rank": 0.389, "rank_1pct": 1.0}),
    ],
)
def test_nulls_of_two_known_aspect_ratios(columns, expected):
    shares = gaussian_shares(768, columns)
    for name, value in expected.items():
        assert shares[name] == pytest.approx(value, abs=3e-3), name


@pytest.mark.parametrize("shape", [(200, 200), (150, 160), (60, 400), (5, 300), (256, 96)])
def test_nulls_are_those_of_simulated_gaussian_matrices(shape):
    rng = np.random.default_rng(3)
    sigmas = [np.linalg.svd(rng.standard_normal(shape), compute_uv=False) for _ in range(20)]
    simulated = pd.DataFrame([rank_measures(sigma) for sigma in sigmas]).mean() / min(shape)
    shares = gaussian_shares(*shape)
    for name, value in simulated.items():
        assert shares[name] == pytest.approx(value, rel=0.03, abs=0.5 / min(shape)), name
    condition = np.median([sigma[0] / sigma[-1] for sigma in sigmas])
    assert 0.3 < gaussian_shares(*shape)["condition"] / condition < 3


def test_gaussian_matrices_lie_at_their_null():
    rng = np.random.default_rng(5)
    shapes = [(128, 128), (128, 344), (64, 1000)]
    tables = [
        spectra([np.linalg.svd(rng.standard_normal(shape), compute_uv=False)], shape=shape, rounding=1.66e-3)
        for shape in shapes
    ]
    ranks = effective_ranks(pd.concat(tables, ignore_index=True))
    relative = ranks[[f"{name}_relative" for name in MEASURES]]
    assert (relative - 1).abs().to_numpy().max() < 0.06
    assert (ranks["condition"] / ranks["condition_null"]).between(0.1, 20).all()


def test_small_end_says_where_rounding_begins():
    sigma = np.array([100.0, 10.0, 1.0, 1e-3])
    table = spectra([sigma, sigma], rounding=0.0)
    table.loc[1, "rounding"] = 1e-3
    ranks = effective_ranks(table)
    floor = 4 * 1e-3 * ranks["frobenius"][1] / 4
    assert list(ranks["status"]) == ["ok", "rounding-limited"]
    assert list(ranks["below_floor"]) == [0, 1]
    assert ranks["floor"][1] == pytest.approx(floor)
    assert ranks["condition"][1] == pytest.approx(1e5)
    assert ranks["condition_resolved"][1] == pytest.approx(100 / floor)


@pytest.mark.parametrize(("method", "status"), [("zero", "zero"), ("not finite", "not finite"), ("empty", "empty")])
def test_matrices_without_spectrum_are_rows_with_a_status(method, status):
    sigma = np.zeros(3) if method == "zero" else np.empty(0)
    table = spectra([sigma, [2.0, 1, 1]], shape=(3, 3), method=method)
    table.loc[0, "rows"] = len(sigma)
    ranks = effective_ranks(table)
    assert ranks["status"][0] == status and np.isnan(ranks["erank"][0])
    assert ranks["erank"][1] > 1
    statistics = statistics_by_role(ranks)
    assert statistics.loc[0, ["Count", "Missing"]].tolist() == [1, 1]


def test_notebook_view_has_its_columns():
    table = pd.concat(
        [
            spectra([[1.0, 1]], role="W_E", layers=[pd.NA], shape=(2, 9)),
            spectra([[1.0, 1], [3.0, 1]], role="W_up", layers=[0, 1], shape=(2, 3)),
            spectra([[1.0, 1]], role="W_up", layers=[1], experts=[7], shape=(2, 3)),
        ],
        ignore_index=True,
    )
    view = notebook_view(effective_ranks(table))
    assert list(view.columns) == ["layer_idx", "weight_type", "shape", "eff_rank"]
    assert view[["layer_idx", "weight_type", "shape"]].to_numpy().tolist() == [
        [0, "W_up", "2x3"],
        [1, "W_up", "2x3"],
        [1, "W_up[7]", "2x3"],
    ]
    assert view["eff_rank"][0] == pytest.approx(2)


def ranks_with(values, role="W_Q", stack="decoder"):
    layers = pd.array(range(len(values)), dtype="Int64")
    return pd.DataFrame(
        {
            "stack": stack,
            "role": role,
            "layer": layers,
            "rows": 10,
            "cols": 20,
            "r": 10,
            "erank": np.asarray(values, float),
        }
    )


def test_statistics_are_the_population_ones():
    values = np.array([3.0, 5, 4, 8])
    row = statistics_by_role(ranks_with(values)).iloc[0]
    assert row["Shape"] == "10x20" and row["Count"] == 4
    assert [row["First"], row["Last"], row["Range"], row["Median"]] == [3, 8, 5, 4.5]
    assert row["Std"] == pytest.approx(values.std()) and row["Variance"] == pytest.approx(values.var())
    assert row["CV"] == pytest.approx(values.std() / values.mean())


def test_phases_are_thirds_and_the_last_takes_the_rest():
    assert phase_of(pd.Series(range(11)), 3).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
    assert phase_of(pd.Series(range(2)), 3).tolist() == [0, 1]
    table = phase_table(ranks_with(range(9)), 3)
    early = table[(table["phase"] == "early") & (table["role"] == "W_Q")].iloc[0]
    assert (early["layers"], early["mean"], early["std"], early["range"]) == ("0-2", 1.0, 1.0, 2.0)
    assert early["share_mean"] == pytest.approx(0.1)
    assert set(phase_table(ranks_with(range(9)), 4)["phase"]) == {"phase 1", "phase 2", "phase 3", "phase 4"}
    assert phase_table(ranks_with([]), 3).empty


@pytest.mark.parametrize(
    ("layers", "phases"),
    [
        ([15, 25, 31], {"middle": 15.0, "late": 28.0}),
        ([0, 31], {"early": 0.0, "late": 31.0}),
        ([31], {"late": 31.0}),
        ([1], {"phase 2": 1.0}),
    ],
)
def test_phases_without_a_layer_leave_the_others_their_names(layers, phases):
    # An adapter of the last layers alone, or of single ones (layers_to_transform of PEFT).
    some = ranks_with(range(32)).iloc[layers].reset_index(drop=True)
    table = phase_table(some).query("role == 'W_Q'").set_index("phase")
    assert table["mean"].to_dict() == phases
    assert trend_table(some)[list(phases)].iloc[0].to_dict() == phases


@pytest.mark.parametrize(
    ("values", "pattern"),
    [
        (np.abs(np.linspace(-1, 1, 30)), "U-SHAPE"),
        (-np.abs(np.linspace(-1, 1, 30)), "INVERTED U"),
        (np.linspace(0, 1, 30), "MONOTONE UP"),
        (np.linspace(1, 0, 30), "MONOTONE DOWN"),
    ],
)
def test_trends_of_clear_courses(values, pattern):
    row = trend_table(ranks_with(50 + 10 * values)).iloc[0]
    assert row["pattern"] == row["trend"] == pattern and row["effect"] > 2
    if pattern.startswith("MONOTONE"):
        assert row["p"] < 1e-6 and abs(row["slope"]) == pytest.approx(10 / 29)


@pytest.mark.slow
def test_noise_is_rarely_a_trend():
    rng = np.random.default_rng(0)
    for depth in (6, 12, 36):
        called = [trend_table(ranks_with(rng.normal(50, 1, depth)))["trend"][0] != "OTHER" for _ in range(100)]
        assert np.mean(called) <= 0.1, depth


@pytest.mark.parametrize(
    "shape",
    [(4, 4), (8, 40), (16, 16), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((64, 64), (64, 172)))],
)
def test_gaussian_models_have_no_trend(shape):
    for seed in range(4):
        random = np.random.default_rng([*shape, seed])
        models = [
            spectra(np.linalg.svd(random.standard_normal((24, *shape)), compute_uv=False), role=role, shape=shape)
            for role in ("W_Q", "W_K", "W_V", "W_O", "W_gate", "W_up", "W_down")
        ]
        trends = trend_table(effective_ranks(pd.concat(models, ignore_index=True)))
        assert (trends["trend"] == "OTHER").all(), trends[["effect", "phases_q"]]


def test_trends_within_the_scatter_of_random_matrices_are_none():
    course = 50 + 0.3 * np.linspace(0, 1, 30)
    row = trend_table(ranks_with(course).assign(rows=64, cols=64)).iloc[0]
    assert row["effect"] > 2 and row["phases_q"] < 0.05 and (row["pattern"], row["trend"]) == ("MONOTONE UP", "OTHER")
    assert trend_table(ranks_with(50 + 10 * (course - 50)).assign(rows=64, cols=64)).iloc[0]["trend"] == "MONOTONE UP"


def test_trends_are_corrected_for_the_number_of_roles():
    from scipy.stats import false_discovery_control

    random = np.random.default_rng(8)
    tables = [ranks_with(random.normal(50, 3, 15), role=f"role {index}") for index in range(6)]
    trends = trend_table(pd.concat([*tables, ranks_with(np.arange(15.0))], ignore_index=True))
    np.testing.assert_allclose(trends["phases_q"], false_discovery_control(trends["phases_p"]))
    assert trends.loc[trends["trend"] != "OTHER", ["role", "trend"]].to_numpy().tolist() == [["W_Q", "MONOTONE UP"]]
    assert (trends["phases_p"] < 0.05).sum() > 1


@pytest.mark.parametrize("shape", [(5, 300), (30, 40), (128, 128), (100, 400)])
def test_scatter_is_that_of_simulated_gaussian_matrices(shape):
    sigmas = np.linalg.svd(np.random.default_rng(1).standard_normal((150, *shape)), compute_uv=False)
    simulated = pd.DataFrame([rank_measures(sigma) for sigma in sigmas]).std()
    assert gaussian_scatter(*shape)["erank"] == pytest.approx(simulated["erank"], rel=0.3)


def test_too_few_layers_are_no_trend():
    row = trend_table(ranks_with([5.0, 4, 3, 2])).iloc[0]
    assert (row["pattern"], row["trend"]) == ("MONOTONE DOWN", "OTHER") and row["phases_p"] > 0.05
    assert trend_table(ranks_with([5.0])).iloc[0]["pattern"] == "OTHER"


def test_gradient_names_the_layers():
    row = trend_table(ranks_with([5.0, 9, 8, 2, 3])).iloc[0]
    assert (row["max_drop"], row["max_drop_layers"]) == (-6, "2-3")
    assert (row["max_jump"], row["max_jump_layers"]) == (4, "0-1")


def test_two_stacks_are_kept_apart():
    both = pd.concat([ranks_with(range(6)), ranks_with(range(3)[::-1], stack="encoder")], ignore_index=True)
    trends = trend_table(both)
    assert trends[["stack", "pattern"]].to_numpy().tolist() == [
        ["decoder", "MONOTONE UP"],
        ["encoder", "MONOTONE DOWN"],
    ]
    assert set(phase_table(both).query("stack == 'encoder'")["layers"]) == {"0-0", "1-1", "2-2"}


def test_patterns():
    assert pattern_of([1, 1, 1]) == "OTHER" and pattern_of([3.0]) == "OTHER"
    assert pattern_of([1, 2, 1, 2]) == "OTHER" and pattern_of([4, 3, 1, 2, 5]) == "U-SHAPE"
