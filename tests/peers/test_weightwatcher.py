"""Power laws and norms against WeightWatcher on the same matrices, with WeightWatcher's own settings.

Where the two differ on purpose: below 20 eigenvalues WeightWatcher changes to another estimator without saying so in
its table; its entropy adds 1e-10 to every share; its threshold of 1e-5 is absolute, so that its alpha of a matrix with
small weights depends on their unit; it counts a fit of two eigenvalues as one.
"""

import contextlib
import io
import logging

import numpy as np
import pandas as pd
import pytest

from weight_atlas.settings.spectra import Tails
from weight_atlas.spectra.heavy_tails import heavy_tails
from weight_atlas.spectra.power_law import fit_power_law, lognormal_ratio
from weight_atlas.spectra.ranks import rank_measures
from weight_atlas.spectra.singular_values import spectrum

OWN_SETTINGS = Tails(min_tail=2, min_tail_share=0.0, threshold=1e-5, bootstrap=0)


def quiet(function, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*args, **kwargs)


@pytest.fixture(scope="module")
def weightwatcher():
    logging.getLogger("weightwatcher").setLevel(logging.CRITICAL)
    module = quiet(__import__, "weightwatcher.WW_powerlaw").WW_powerlaw
    logging.getLogger("weightwatcher").setLevel(logging.CRITICAL)
    return module


def matrix(kind, rows, columns, seed):
    random = np.random.default_rng(seed)
    noise = random.standard_normal((rows, columns))
    if kind == "gaussian":
        return noise
    if kind == "heavy rows":
        return noise * (random.pareto(2.5, (rows, 1)) + 1)
    if kind == "low rank":
        return random.standard_normal((rows, 30)) @ random.standard_normal((30, columns)) + 1e-4 * noise
    sigma = np.arange(1, min(rows, columns) + 1) ** -0.6
    left = np.linalg.qr(random.standard_normal((rows, len(sigma))))[0]
    right = np.linalg.qr(random.standard_normal((columns, len(sigma))))[0]
    return 5 * (left * sigma) @ right.T + 0.02 * noise


@pytest.mark.parametrize("shape", [(64, 64), (128, 344), (500, 200), (400, 400)])
@pytest.mark.parametrize("kind", ["gaussian", "heavy rows", "low rank", "trained-like"])
def test_fits_are_equal(weightwatcher, kind, shape):
    weights = matrix(kind, *shape, seed=sum(shape))
    values = np.sort(np.linalg.svd(weights, compute_uv=False) ** 2)
    values = values[values > 1e-5]
    theirs = quiet(weightwatcher.WWFit, values)
    ours = fit_power_law(values)
    assert ours.xmin == theirs.xmin and ours.tail == len(theirs.data)
    assert ours.alpha == pytest.approx(theirs.alpha, rel=1e-12)
    assert ours.distance == pytest.approx(theirs.D, rel=1e-12)
    assert ours.error == pytest.approx(theirs.sigma, rel=1e-12)


def test_equal_eigenvalues_do_not_confuse_the_search(weightwatcher):
    values = np.sort(np.repeat(np.random.default_rng(0).pareto(2, 60) + 1, 3))
    with np.errstate(divide="ignore", invalid="ignore"):
        theirs = quiet(weightwatcher.WWFit, values)
    ours = fit_power_law(values)
    assert ours.distance == pytest.approx(theirs.D, rel=1e-12)
    assert ours.alpha == pytest.approx(theirs.alpha, rel=1e-12)


def test_lognormal_comparison_is_that_of_powerlaw():
    import powerlaw

    for seed in range(3):
        values = np.sort(np.exp(np.random.default_rng(seed).normal(0, 1.2, 800)))
        tail = values[values >= np.quantile(values, 0.3)]
        fit = quiet(powerlaw.Fit, tail, xmin=tail[0], verbose=False)
        ratio, p = quiet(fit.distribution_compare, "power_law", "lognormal", normalized_ratio=True)
        ours, our_p = lognormal_ratio(tail)
        assert ours == pytest.approx(ratio, abs=0.02) and our_p == pytest.approx(p, rel=0.05)


def test_small_samples_go_another_way_in_weightwatcher(weightwatcher):
    values = np.sort(np.random.default_rng(1).pareto(2, 19) + 1)
    theirs = quiet(weightwatcher.WWFit, values)
    assert theirs.alpha != pytest.approx(fit_power_law(values).alpha, rel=1e-3)


def test_whole_table_of_a_model(weightwatcher):
    import torch
    import weightwatcher as ww

    shapes = [(128, 344), (256, 256), (300, 100)]
    layers = [torch.nn.Linear(columns, rows, bias=False) for rows, columns in shapes]
    for seed, layer in enumerate(layers):
        layer.weight.data = torch.from_numpy(matrix("trained-like", *layer.weight.shape, seed)).float()
    theirs = quiet(ww.WeightWatcher(model=torch.nn.Sequential(*layers)).analyze, min_evals=20)
    spectra = [spectrum(layer.weight.data) for layer in layers]
    ours = heavy_tails(
        pd.DataFrame(
            {
                **{"id": [f"m{index}" for index in range(3)], "role": "W_up", "stack": "decoder", "layer": range(3)},
                **{"expert": pd.NA, "rows": [rows for rows, _ in shapes], "cols": [columns for _, columns in shapes]},
                **{
                    "zero_rows": 0,
                    "zero_cols": 0,
                    "rounding": 2.5e-8,
                    "frobenius": [found.frobenius for found in spectra],
                },
                **{"method": "gram", "sigma": [found.sigma for found in spectra], "shuffled": [np.empty(0)] * 3},
            }
        ),
        OWN_SETTINGS,
    )
    columns = {"alpha": "alpha", "D": "D", "xmin": "xmin", "sigma": "alpha_error", "num_pl_spikes": "tail"}
    columns |= {name: name for name in ("alpha_weighted", "log_alpha_norm", "log_norm", "log_spectral_norm")}
    for their_name, our_name in columns.items():
        np.testing.assert_allclose(ours[our_name].astype(float), theirs[their_name].astype(float), rtol=1e-6)
    np.testing.assert_allclose(ours["entropy"], theirs["entropy"].astype(float), rtol=1e-5)
    stable = [rank_measures(found.sigma)["stable_rank"] for found in spectra]
    np.testing.assert_allclose(stable, theirs["stable_rank"].astype(float), rtol=1e-6)
