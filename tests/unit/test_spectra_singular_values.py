"""Singular values against float64 SVDs of the stored matrices."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import torch

from weight_atlas.spectra import schedule, singular_values
from weight_atlas.spectra.singular_values import (
    GRAM_NOISE,
    relative_rounding,
    spectra_of_equal_shapes,
    spectrum,
)
from weight_atlas.spectra.spectrum_rows import rounding_floor
from weight_atlas.spectra.table import in_inventory_order, share_of, singular_value_table

TYPES = [torch.bfloat16, torch.float16, torch.float32]


def of_spectrum(rows, columns, sigma, seed=0):
    """A matrix with given singular values and random singular vectors."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((rows, len(sigma))))[0]
    right = np.linalg.qr(rng.standard_normal((columns, len(sigma))))[0]
    return torch.from_numpy((left * sigma) @ right.T)


@cache
def matrices():
    rng = np.random.default_rng(7)
    noise = torch.from_numpy(rng.standard_normal((96, 200)))
    power = np.arange(1, 97) ** -0.7
    return {
        "trained-like": of_spectrum(96, 200, 20 * power) + 0.02 * noise,
        "ill-conditioned": of_spectrum(120, 120, np.logspace(0, -6, 120)),
        "ill-conditioned wide": of_spectrum(90, 700, np.logspace(0, -6, 90)),
        "rank-deficient": of_spectrum(100, 150, np.linspace(3, 1, 20)),
        "tall": torch.from_numpy(rng.standard_normal((3000, 40))),
        "wide": torch.from_numpy(rng.standard_normal((40, 3000))),
        "one row": torch.from_numpy(rng.standard_normal((1, 500))),
        "one column": torch.from_numpy(rng.standard_normal((500, 1))),
        "repeated values": of_spectrum(80, 80, np.repeat([5.0, 2.0, 0.5, 0.1], 20)),
        "repeated rows": torch.from_numpy(np.repeat(rng.standard_normal((30, 90)), 3, axis=0)),
        "massive column": noise * torch.where(torch.arange(200) == 3, 1000.0, 1.0),
        "zero": torch.zeros(30, 70),
    }


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", matrices())
def test_agrees_with_a_direct_float64_svd_above_the_rounding_floor(name, dtype):
    weight = matrices()[name].to(dtype)
    exact = scipy.linalg.svdvals(weight.double().numpy())
    found = spectrum(weight)
    assert found.sigma.shape == exact.shape and found.sigma.dtype == np.float64
    assert np.all(np.diff(found.sigma) <= 0)
    assert np.abs(found.sigma - exact).max() <= found.error_bound * exact[0] + 1e-14 * exact[0]
    floor = rounding_floor(*weight.shape, found.frobenius, relative_rounding(dtype))
    informative = exact > max(floor, 1e-8 * exact[0])
    np.testing.assert_allclose(found.sigma[informative], exact[informative], rtol=1e-6)
    assert found.frobenius == pytest.approx(np.linalg.norm(weight.double().numpy()), rel=1e-13, abs=0)
    assert (found.sigma**2).sum() == pytest.approx(found.frobenius**2, rel=1e-12, abs=0)


def test_condition_a_million_in_float32_keeps_its_smallest_value():
    weight = of_spectrum(300, 300, np.logspace(0, -6, 300)).float()
    found = spectrum(weight)
    assert found.method == "direct"
    np.testing.assert_allclose(found.sigma, scipy.linalg.svdvals(weight.double().numpy()), rtol=1e-8)


def test_takes_the_direct_route_only_where_the_gram_matrix_would_be_wrong():
    good, lost = np.logspace(0, -3, 60), np.r_[np.ones(59), GRAM_NOISE / 10]
    assert spectrum(of_spectrum(60, 90, good).float()).method == "gram"
    assert spectrum(of_spectrum(60, 90, lost)).method == "direct"
    # Between bfloat16's rounding floor and the Gram matrix's limit nothing is left to be wrong.
    assert spectrum(of_spectrum(60, 60, np.logspace(0, -4, 60)).bfloat16()).method == "gram"


def test_direct_route_sees_exact_rank_deficiency():
    weight = torch.from_numpy(np.repeat(np.random.default_rng(0).standard_normal((40, 300)), 2, axis=0)).bfloat16()
    sigma = spectrum(weight).sigma
    assert (sigma > sigma[0] * 300 * np.finfo(float).eps).sum() == 40


def test_blocks_of_a_long_side_add_up():
    weight = torch.from_numpy(np.random.default_rng(0).standard_normal((5000, 30))).float()
    exact = scipy.linalg.svdvals(weight.double().numpy())
    np.testing.assert_allclose(spectrum(weight).sigma, exact, rtol=1e-13)
    weight[:, 3] = weight[:, 4] + 1e-7 * weight[:, 5]
    found = spectrum(weight)
    assert found.method == "direct"
    np.testing.assert_allclose(found.sigma, scipy.linalg.svdvals(weight.double().numpy()), atol=1e-13 * exact[0])


@pytest.mark.parametrize(
    ("weight", "method"),
    [
        (torch.empty(0, 5), "empty"),
        (torch.full((3, 4), torch.nan), "not finite"),
        (torch.tensor([[1.0, torch.inf], [0.0, 1.0]]), "not finite"),
        (torch.zeros(4, 4), "zero"),
    ],
)
def test_matrices_without_a_spectrum_say_so(weight, method):
    assert spectrum(weight).method == method
    assert spectra_of_equal_shapes([weight, weight], "cpu")[1].method == method


def test_rounding_error_of_stored_types():
    values = torch.from_numpy(np.exp(np.random.default_rng(0).uniform(0, 12 * np.log(2), 200_000)) / 2**10)
    for dtype in (torch.bfloat16, torch.float16):
        relative = (values.to(dtype).double() / values - 1).square().mean().sqrt().item()
        assert relative_rounding(dtype) == pytest.approx(relative, rel=0.02)
    assert relative_rounding(torch.bfloat16) == pytest.approx(1.66e-3, rel=0.01)
    assert relative_rounding(torch.int8) == 0


def test_floor_is_the_norm_of_the_rounding_error():
    exact = torch.from_numpy(np.random.default_rng(0).standard_normal((400, 900)))
    rounded = exact.bfloat16()
    error = np.linalg.norm((rounded.double() - exact).numpy(), 2)
    floor = rounding_floor(400, 900, float(exact.norm()), relative_rounding(torch.bfloat16))
    assert error == pytest.approx(floor, rel=0.15)


def test_batches_of_equal_shapes_give_the_same_values():
    weights = [matrix.float() for name, matrix in matrices().items() if matrix.shape == (96, 200)]
    weights += [torch.zeros(96, 200), of_spectrum(96, 200, np.ones(5)).float(), torch.full((96, 200), torch.nan)]
    for one, batched in zip(map(spectrum, weights), spectra_of_equal_shapes(weights, "cpu"), strict=True):
        assert one.method == batched.method
        np.testing.assert_allclose(batched.sigma, one.sigma, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (6, 6)])
def test_rows_and_columns_of_zeros_are_counted_on_every_route(shape):
    weight = torch.randn(shape, dtype=torch.float64)
    weight[1:4], weight[:, 2] = 0, 0
    zeros = torch.zeros(shape)
    for found in (spectrum(weight), spectra_of_equal_shapes([weight, weight], "cpu")[1]):
        assert (found.zero_rows, found.zero_columns) == (3, 1)
    for found in (spectrum(zeros), spectra_of_equal_shapes([zeros], "cpu")[0]):
        assert (found.zero_rows, found.zero_columns) == shape


def inventory(shapes):
    rows = [
        {
            **{"id": f"m{index}", "tensor": f"m{index}", "role": "W_Q", "stack": "decoder", "layer": index},
            **{"expert": pd.NA, "rows": height, "cols": width, "dtype": "F32"},
        }
        for index, (height, width) in enumerate(shapes)
    ]
    return pd.DataFrame(rows).astype({"layer": "Int64", "expert": "Int64"})


SHAPES = [(64, 200), (200, 64), (128, 128), (1, 40), (0, 7), (300, 300), (64, 200), (150, 90), (128, 128)]


def load(row):
    generator = torch.Generator().manual_seed(int(row.layer))
    return torch.randn(int(row.rows), int(row.cols), generator=generator)


def test_table_does_not_depend_on_parts_or_threads(monkeypatch):
    monkeypatch.setattr(schedule, "GRAIN", 1e6)
    rows = inventory(SHAPES)
    tables = []
    for count, threads in [(1, 1), (1, 4), (3, 2), (12, 1)]:
        shares = [share_of(rows, part + 1, count) for part in range(count)]
        parts = [singular_value_table(share, load, threads=threads, memory_bytes=10_000_000) for share in shares]
        tables.append(in_inventory_order(parts, rows))
        assert sum(len(share) for share in shares) == len(rows)
    for table in tables:
        assert list(table["id"]) == list(rows["id"])
        assert [values.tobytes() for values in table["sigma"]] == [values.tobytes() for values in tables[0]["sigma"]]


def test_device_route_of_the_table(monkeypatch):
    rows = inventory(SHAPES)
    monkeypatch.setattr("weight_atlas.spectra.table.BATCH_BYTES", 300_000)
    on_device = singular_value_table(rows, load, device="cpu:0")
    on_cpu = singular_value_table(rows, load)
    assert list(on_device["method"]) == list(on_cpu["method"])
    for one, other in zip(on_device["sigma"], on_cpu["sigma"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_a_device_without_enough_memory_leaves_matrices_to_the_cpu(monkeypatch, capsys):
    def too_large(weights, device):
        if weights[0].shape == (300, 300):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return computed(weights, device)

    computed = spectra_of_equal_shapes
    monkeypatch.setattr(singular_values, "spectra_of_equal_shapes", too_large)
    rows = inventory(SHAPES)
    found = singular_value_table(rows, load, device="cpu:0")
    assert "1 matrices of (300, 300): on the CPU" in capsys.readouterr().out
    for one, other in zip(found["sigma"], singular_value_table(rows, load)["sigma"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_parts_are_balanced_and_empty_ones_are_allowed():
    costs = [5.0, 4.0, 3.0, 3.0, 3.0]
    shares = schedule.parts([cost * schedule.GRAIN for cost in costs], 2)
    assert sorted(index for share in shares for index in share) == [0, 1, 2, 3, 4]
    assert max(sum(costs[index] for index in share) for share in shares) <= 10
    assert schedule.parts([1.0, 1.0, 1.0], 4) == [[0, 1, 2], [], [], []]
    assert schedule.parts([], 2) == [[], []]
    assert singular_value_table(share_of(inventory(SHAPES), 4, 4), load).empty


def test_memory_bound_holds_and_a_task_too_large_runs_alone():
    import threading
    import time

    held, most, lock = 0, 0, threading.Lock()

    def task(need):
        nonlocal held, most
        with lock:
            held += need
            most = max(most, held)
        time.sleep(0.002)
        with lock:
            held -= need
        return need

    needs = [30, 10, 10, 50, 20, 120, 40]
    results = schedule.run_within([lambda need=need: task(need) for need in needs], needs, 60, 4)
    assert results == needs and most == 120
    results = schedule.run_within([lambda need=need: task(need) for need in needs[:5]], needs[:5], 60, 4)
    assert results == needs[:5]


def test_an_error_in_one_matrix_ends_the_table():
    def broken(row):
        if row.layer == 3:
            raise OSError("gone")
        return load(row)

    with pytest.raises(OSError, match="gone"):
        singular_value_table(inventory(SHAPES), broken, threads=2)


@pytest.mark.slow
def test_memory_of_a_large_matrix_is_bounded():
    """Peak memory of a fresh process for one 2048 x 11008 matrix: below its float64 size, its Gram and 500 MB."""
    import subprocess
    import sys

    code = """
import numpy as np, torch, pandas as pd
from weight_atlas.spectra.table import singular_value_table
rows = pd.DataFrame([dict(id=f"m{i}", tensor="m", role="W_up", stack="decoder", layer=i, expert=pd.NA, rows=11008,
    cols=2048, dtype="BF16") for i in range(4)])
load = lambda row: torch.empty(11008, 2048, dtype=torch.bfloat16).random_(-9, 9)  # nothing beside it
table = singular_value_table(rows, load, threads=4)
assert (table["method"] == "gram").all()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    largest = (2048 * 11008 + 2048**2) * 8 / 2**20
    assert float(done.stdout) / 1024 < largest + 500, done.stdout


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_reported_measure_is_right_to_a_millionth_or_flagged(dtype):
    from weight_atlas.spectra.ranks import effective_ranks

    names = list(matrices())
    rows = inventory([matrices()[name].shape for name in names]).assign(id=names)
    table = singular_value_table(rows, lambda row: matrices()[row.id].to(dtype))
    truth = table.assign(
        sigma=[scipy.linalg.svdvals(matrices()[name].to(dtype).double().numpy()) for name in names], error_bound=0.0
    )
    found, exact = effective_ranks(table), effective_ranks(truth)
    at_the_small_end = ["sigma_min", "condition", *(column for column in found if column.startswith("numerical_rank"))]
    for column in found.select_dtypes("number").columns.difference(["layer", "expert", "error_bound"]):
        known = found["status"] != "rounding-limited" if column in at_the_small_end else np.ones(len(found), bool)
        ours, theirs = found.loc[known, column].astype(float), exact.loc[known, column].astype(float)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=column)
