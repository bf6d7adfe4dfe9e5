"""Power laws, random bulks and the heavy-tail table."""

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.figures.heavy_tail import alpha_by_layer, spectral_densities
from weight_atlas.settings.spectra import HeavyTail, Tails
from weight_atlas.spectra.heavy_tails import heavy_tails, smallest_tail, tail_summary, with_spectra
from weight_atlas.spectra.marchenko_pastur import Bulk, density, fit_bulk, gaussian_spectrum
from weight_atlas.spectra.power_law import bootstrap_p, fit_power_law, lognormal_ratio
from weight_atlas.spectra.table import singular_value_table

QUICK = HeavyTail(bootstrap=0)  # as the step has it


def full_search(values, min_tail=2):
    """Every threshold in turn, by the definition: (alpha, xmin, distance, tail)."""
    best = None
    for start in range(len(values) - min_tail + 1):
        tail = values[start:]
        logs = np.log(tail)
        excess = logs.sum() - len(tail) * logs[0]
        if excess <= 0:
            continue
        alpha = 1 + len(tail) / excess
        distance = np.abs(1 - (tail / tail[0]) ** (1 - alpha) - np.arange(len(tail)) / len(tail)).max()
        if best is None or distance < best[2]:
            best = alpha, tail[0], distance, len(tail)
    return best


def pareto(count, alpha, seed):
    return np.sort((1 - np.random.default_rng(seed).random(count)) ** (-1 / (alpha - 1)))


def gaussian(shape, seed=0):
    return np.linalg.svd(np.random.default_rng(seed).standard_normal(shape), compute_uv=False)


@pytest.mark.parametrize("min_tail", [2, 50])
@pytest.mark.parametrize("seed", range(4))
def test_pruned_search_finds_what_the_full_search_finds(seed, min_tail):
    random = np.random.default_rng(seed)
    body = np.abs(random.standard_normal(700)) + 0.01
    spectra = [
        np.sort(np.concatenate([body, 2 * pareto(200, 2.0 + seed / 2, seed)])),
        np.sort(gaussian((150, 220), seed) ** 2),
        np.sort(np.exp(2 * random.standard_normal(500))),
        np.sort(np.round(np.exp(random.standard_normal(300)), 1) + 0.1),
        pareto(60, 2.5, seed),
    ]
    for values in spectra:
        fit = fit_power_law(values, min_tail)
        alpha, xmin, distance, tail = full_search(values, min_tail)
        assert (fit.xmin, fit.tail) == (xmin, tail)
        assert fit.alpha == pytest.approx(alpha, rel=1e-13) and fit.distance == pytest.approx(distance, rel=1e-12)


def test_fit_finds_the_exponent_and_does_not_depend_on_scale():
    values = pareto(5000, 2.7, 0)
    fit = fit_power_law(values)
    assert fit.alpha == pytest.approx(2.7, abs=4 * fit.error) and fit.error < 0.1
    scaled = fit_power_law(1e9 * values)
    assert scaled.alpha == pytest.approx(fit.alpha, rel=1e-9) and scaled.tail == fit.tail


def test_no_fit_where_there_is_nothing_to_fit():
    assert fit_power_law(np.array([1.0])) is None
    assert fit_power_law(np.ones(100)) is None
    assert fit_power_law(pareto(49, 2, 0), min_tail=50) is None


def test_bootstrap_keeps_power_laws_and_rejects_others():
    law = np.sort(np.concatenate([np.random.default_rng(1).random(200), pareto(400, 2.5, 1)]))
    other = np.sort(np.exp(np.random.default_rng(1).standard_normal(600) * 0.3))
    for values, kept in ((law, True), (other, False)):
        fit = fit_power_law(values, 300)
        p = bootstrap_p(values, fit, repeats=40, seed=1, min_tail=300)
        assert (p >= 0.1) is kept, p
        assert p == bootstrap_p(values, fit, repeats=40, seed=1, min_tail=300)


def test_lognormal_is_told_from_a_power_law():
    heavy = np.exp(np.sort(np.random.default_rng(2).normal(0, 1, 3000)))
    ratio, p = lognormal_ratio(heavy[heavy > 1])
    assert ratio < 0 and p < 0.01
    ratio, p = lognormal_ratio(pareto(3000, 2.5, 2))
    assert p > 0.05
    assert np.isnan(lognormal_ratio(np.ones(5))[0])


@pytest.mark.parametrize("shape", [(200, 200), (128, 344), (600, 150)])
def test_bulk_of_a_gaussian_matrix(shape):
    for seed in range(3):
        bulk = fit_bulk(np.sort((0.3 * gaussian(shape, seed)) ** 2), *shape)
        large, small = max(shape), min(shape)
        assert bulk.scale == pytest.approx(0.3, rel=0.02)
        assert bulk.high == pytest.approx(0.09 * (large**0.5 + small**0.5) ** 2, rel=0.04)
        assert bulk.low == pytest.approx(0.09 * (large**0.5 - small**0.5) ** 2, rel=0.04, abs=1e-12)
        assert bulk.spikes == 0 and bulk.spike_energy == 0 and bulk.distance < 4 / small


def test_spikes_are_counted_with_their_energy():
    random = np.random.default_rng(0)
    noise = random.standard_normal((300, 500))
    left, right = (np.linalg.qr(random.standard_normal((size, 4)))[0] for size in (300, 500))
    values = np.sort(np.linalg.svd(noise + left @ np.diag([90, 80, 70, 60]) @ right.T, compute_uv=False) ** 2)
    bulk = fit_bulk(values, 300, 500)
    assert bulk.spikes == 4 and bulk.scale == pytest.approx(1, rel=0.02)
    assert bulk.spike_energy == pytest.approx(values[-4:].sum() / values.sum())
    assert bulk.softrank == pytest.approx(bulk.high / values[-1])


def test_false_spikes_are_rare():
    counts = [fit_bulk(np.sort(gaussian((60, 90), seed) ** 2), 60, 90).spikes for seed in range(200)]
    assert np.mean(counts) < 0.06


def test_law_integrates_to_one_and_matches_a_spectrum():
    values, heights = density(Bulk(1.0, 20.0, 400.0, 0, 0.0, 1.0, 0.0))
    assert np.trapezoid(heights, values) == pytest.approx(1, rel=0.01)
    simulated = np.sort(gaussian((300, 500)) ** 2)
    np.testing.assert_allclose(gaussian_spectrum(300, 500), simulated, rtol=0.08)


def measured(weights, settings=QUICK):
    """The heavy-tail table of matrices, by way of their spectra as the artifact has them."""
    weights = [weight if torch.is_tensor(weight) else torch.from_numpy(weight) for weight in weights]
    rows = pd.DataFrame({"rows": [len(weight) for weight in weights], "cols": [weight.shape[1] for weight in weights]})
    rows = rows.assign(id=[f"m{index}" for index in range(len(weights))], tensor="t", role="W_Q", stack="decoder")
    rows = rows.assign(layer=range(len(weights)), expert=pd.NA, dtype="BF16", place=range(len(weights)))
    return heavy_tails(singular_value_table(rows, lambda row: weights[row.place]), settings)


def table(sigmas, shapes, role="W_Q"):
    return pd.DataFrame(
        {
            **{"id": [f"m{index}" for index in range(len(sigmas))], "role": role, "stack": "decoder"},
            **{
                "layer": pd.array(range(len(sigmas)), dtype="Int64"),
                "expert": pd.array([pd.NA] * len(sigmas), "Int64"),
            },
            **{"rows": [shape[0] for shape in shapes], "cols": [shape[1] for shape in shapes], "method": "gram"},
            **{
                "rounding": 1.66e-3,
                "zero_rows": 0,
                "zero_cols": 0,
                "frobenius": [float(np.linalg.norm(sigma)) for sigma in sigmas],
                "sigma": sigmas,
                "shuffled": [np.empty(0)] * len(sigmas),
            },
        }
    )


def test_gaussian_matrices_look_random():
    shapes = [(256, 256), (128, 344), (400, 200)]
    tails = heavy_tails(table([gaussian(shape, 3) for shape in shapes], shapes), QUICK)
    assert (tails["reading"] == "random-like").all() and (tails["mp_spikes"] == 0).all()
    assert (tails["alpha"] / tails["alpha_null"]).between(0.6, 1.6).all()


def test_table_by_its_definitions():
    sigma = np.sqrt(3 * pareto(300, 2.4, 5)[::-1])
    tails = heavy_tails(table([sigma], [(300, 800)]), Tails(min_tail=2, min_tail_share=0, threshold=0, bootstrap=20))
    row, values = tails.iloc[0], sigma[::-1] ** 2
    fit = fit_power_law(values)
    assert (row["alpha"], row["D"], row["xmin"], row["tail"]) == (fit.alpha, fit.distance, fit.xmin, fit.tail)
    assert row["alpha_weighted"] == pytest.approx(fit.alpha * np.log10(values[-1]))
    assert row["log_alpha_norm"] == pytest.approx(np.log10((values**fit.alpha).sum()))
    assert row["log_norm"] == pytest.approx(np.log10(values.sum()))
    assert row["log_spectral_norm"] == pytest.approx(np.log10(values[-1]))
    share = values / values.sum()
    assert row["entropy"] == pytest.approx(-(share * np.log(share)).sum() / np.log(300))
    assert (row["status"], row["reading"]) == ("ok", "well trained")


def test_eigenvalues_below_the_rounding_floor_stay_out():
    sigma = np.r_[np.linspace(30, 10, 100), np.full(20, 1e-3)]
    tails = heavy_tails(table([sigma], [(120, 120)]), QUICK)
    assert tails["eigenvalues"][0] == 100
    assert heavy_tails(table([sigma], [(120, 120)]), Tails(threshold=1e-9, bootstrap=0))["eigenvalues"][0] == 120


def test_failures_are_rows_and_enter_no_mean():
    shapes = [(9, 30), (300, 300), (3, 3), (0, 4)]
    sigmas = [gaussian((9, 30)), np.sqrt(pareto(300, 3, 0)[::-1]), np.zeros(3), np.empty(0)]
    tails = heavy_tails(table(sigmas, shapes), QUICK)
    assert tails["status"].tolist()[0] == "failed" and tails["status"].tolist()[2:] == ["failed", "failed"]
    summary = tail_summary(tails)
    assert summary["all"]["alpha"] == pytest.approx(tails["alpha"][1])
    assert summary["all"]["status"]["failed"] == 3 and set(summary["by_role"]) == {"decoder W_Q"}
    assert tail_summary(tails.head(0))["all"]["matrices"] == 0


@pytest.mark.parametrize("bootstrap", [0, 20])
def test_spectra_without_a_spread_have_no_exponent_and_no_reading(bootstrap):
    random = np.random.default_rng(1)
    left, right = (np.linalg.qr(random.standard_normal((128, 128)))[0] for _ in range(2))
    rotation = torch.from_numpy(left)
    levels = [(left * np.repeat(values, 128 // len(values))) @ right for values in ([1, 2], [1, 2, 3, 4], range(1, 9))]
    flat = [
        *[rotation, rotation.float(), rotation.half(), rotation.bfloat16(), torch.linalg.qr(rotation.float())[0]],
        *[torch.eye(64), 3 * torch.eye(40, 90).bfloat16(), torch.from_numpy(left + 0.001 * right)],
        *[torch.from_numpy(level).to(dtype) for level in levels for dtype in (torch.float64, torch.bfloat16)],
    ]
    tails = measured(flat, Tails(bootstrap=bootstrap))
    assert (tails["status"] == "degenerate").all() and (tails["reading"] == "").all()
    assert tails[["alpha", "alpha_weighted", "log_alpha_norm", "D"]].isna().all(axis=None)
    assert tails["alpha_null"].notna().all() and np.isnan(tail_summary(tails)["all"]["alpha"])


def test_few_eigenvalues_are_not_fitted():
    random = np.random.default_rng(2)
    outer = np.outer(random.standard_normal(60), random.standard_normal(90))
    low = random.standard_normal((60, 6)) @ random.standard_normal((6, 90))
    tails = measured([torch.from_numpy(weight).bfloat16() for weight in (outer, low, gaussian((9, 9))[None])])
    assert (tails["status"] == "failed").all() and (tails["reading"] == "").all() and tails["alpha"].isna().all()


@pytest.mark.parametrize("shape", [(128, 64), (128, 128)])
def test_planted_exponents_of_small_matrices_are_found(shape):
    alphas = []
    for seed in range(20):
        body = np.random.default_rng(seed).random(min(shape) * 3 // 4)
        values = np.sort(np.concatenate([body, pareto(min(shape) // 4, 4.0, seed)]))
        alphas.append(fit_power_law(values, smallest_tail(Tails(), len(values))).alpha)
    assert np.mean(alphas) == pytest.approx(4.0, abs=0.5)


def test_spurious_fits_have_no_reading_and_enter_no_mean():
    lognormal = np.sort(np.exp(np.random.default_rng(4).normal(0, 0.8, 400)))[::-1]
    sigmas = [np.sqrt(lognormal), np.sqrt(pareto(300, 3, 0)[::-1])]
    settings = Tails(min_tail=10, min_tail_share=0.9, bootstrap=20)
    tails = heavy_tails(table(sigmas, [(400, 500), (300, 300)]), settings)
    assert tails["status"].tolist() == ["spurious", "ok"] and tails["reading"].tolist() == ["", "well trained"]
    summary = tail_summary(tails)["all"]
    assert (summary["trusted"], summary["alpha"]) == (1, tails["alpha"][1])
    assert summary["log_alpha_norm"] == tails["log_alpha_norm"][1] and summary["reading"] == {"well trained": 1}
    assert summary["log_norm"] == tails["log_norm"].mean()


def test_rows_and_columns_of_zeros_change_nothing():
    random = np.random.default_rng(6)
    inner = random.standard_normal((60, 40)) + 5 * np.outer(random.standard_normal(60), np.eye(40)[0])
    padded = []
    for rows, columns in ((60, 40), (60, 160), (200, 40), (150, 150)):
        outer = np.zeros((rows, columns))
        outer[np.sort(random.choice(rows, 60, replace=False))[:, None], random.choice(columns, 40, replace=False)] = (
            inner
        )
        padded.append(torch.from_numpy(outer).bfloat16())
    tails = measured(padded)
    # Power law and log-normal are as close as can be here: their ratio magnifies the last bits of the spectra.
    # The columns stand in another order, and the shuffled elements then do, too.
    apart = ["lognormal_R", "lognormal_p", "shuffled_lambda_max"]
    numbers = [name for name in tails if pd.api.types.is_float_dtype(tails[name]) and name not in apart]
    assert tails["eigenvalues"].tolist() == [40] * 4 and tails["mp_spikes"].tolist() == [1] * 4
    for index in range(1, 4):
        np.testing.assert_allclose(
            tails.loc[index, numbers].astype(float), tails.loc[0, numbers].astype(float), rtol=1e-6, atol=1e-9
        )
        assert (
            tails.loc[index, ["status", "reading", "tail"]].tolist()
            == tails.loc[0, ["status", "reading", "tail"]].tolist()
        )


def test_spikes_never_exceed_the_eigenvalues_above_rounding():
    random = np.random.default_rng(7)
    pruned = 0.02 * random.standard_normal((64, 160))
    pruned[:40] = 0
    repeated = np.repeat(random.standard_normal((64, 1)), 160, axis=1)
    low = random.standard_normal((64, 8)) @ random.standard_normal((8, 160))
    uneven = low * np.exp(2 * random.standard_normal((64, 1)))
    square = random.standard_normal((64, 12)) @ random.standard_normal((12, 64))
    kinds = (low, uneven, square, pruned, repeated, repeated.T, np.ones((64, 64)))
    for dtype in (torch.bfloat16, torch.float32):
        tails = measured([torch.from_numpy(weight).to(dtype) for weight in kinds])
        assert (tails["mp_spikes"] <= tails["eigenvalues"]).all()
        assert tails["mp_spike_energy"].between(0, 1).all()
        assert tails.loc[3, ["eigenvalues", "mp_spikes", "reading"]].tolist() == [24, 0, "random-like"]
        assert tails.loc[[4, 5, 6], "eigenvalues"].tolist() == [1, 1, 1]
        assert (tails["reading"].drop(3) != "random-like").all()


@pytest.mark.parametrize("rank", [1, 8, 24])
def test_low_rank_under_noise_is_counted_as_spikes(rank):
    random = np.random.default_rng(rank)
    low = random.standard_normal((120, rank)) @ random.standard_normal((rank, 200))
    tails = measured([torch.from_numpy(low + 0.3 * random.standard_normal(low.shape)).bfloat16()])
    assert tails["mp_spikes"][0] == rank and tails["mp_scale"][0] == pytest.approx(0.3, rel=0.12)


def test_large_exponents_do_not_overflow():
    values = np.linspace(1e3, 1.02e3, 200)
    tails = heavy_tails(table([np.sqrt(values[::-1])], [(200, 400_000)]), QUICK)
    assert tails["alpha"][0] > 50 and np.isfinite(tails["log_alpha_norm"][0])


def test_figures_of_little_and_nothing():
    tails = heavy_tails(table([np.sqrt(pareto(300, 3, 0)[::-1])], [(300, 300)]), QUICK)
    spectra = table([np.sqrt(pareto(300, 3, 0)[::-1])], [(300, 300)])
    assert len(alpha_by_layer(tails).axes) == 1
    assert len(spectral_densities(with_spectra(tails, spectra, QUICK)).axes) == 2
    for empty in (alpha_by_layer(tails.head(0)), spectral_densities([])):
        assert empty.axes[0].texts
