"""Sparsity of tensors and matrices against numpy on all elements, and planted structure."""

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas import metrics
from weight_atlas.figures.sparsity import pruning_and_masks
from weight_atlas.weights import profile_table
from weight_atlas.weights.histogram_table import histogram_parts
from weight_atlas.weights.profile import Profiler
from weight_atlas.weights.sparsity import ABSOLUTE, GINI_NULL, OF_RMS, PRUNED, sparsity
from weight_atlas.weights.stored_types import stored_as
from weight_atlas.weights.streaming import Reading
from weight_atlas.weights.structured_sparsity import (
    TWO_FOUR_NULL,
    dead_experts,
    dead_units,
    near_methods,
    structure,
    two_four,
    with_structure,
)
from weight_atlas.weights.value_histogram import value_histogram


def normal(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02).to(dtype)


def tables(tensors: dict[str, torch.Tensor], **columns):
    """Inventory, histogram parts and profiles of tensors."""
    inventory = pd.DataFrame({"id": list(tensors), "tensor": list(tensors)}).assign(
        piece="",
        role="W_Q",
        stack="decoder",
        layer=0,
        expert=None,
        dtype="BF16",
        component="",
        n_heads=None,
        head_dim=None,
    )
    inventory["rows"] = [tensor.shape[0] for tensor in tensors.values()]
    inventory["cols"] = [tensor.shape[1] if tensor.ndim > 1 else None for tensor in tensors.values()]
    inventory = inventory.assign(**columns)
    read = []
    for name, tensor in tensors.items():
        dtype, flat = stored_as(tensor.contiguous())
        profile = None
        if tensor.ndim == 2:
            profiler = Profiler(dtype, tuple(tensor.shape))
            profiler.add(flat)
            profile = profiler.profile()
        read.append(Reading(name, value_histogram(tensor), profile))
    profiles: list[pd.DataFrame] = []
    passed = profile_table.ProfileParts(inventory, profiles.append).passing(read)
    histograms = list(histogram_parts(inventory, passed))
    return inventory, histograms, [row for part in profiles for row in part.itertuples(index=False)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn])
def test_shares_and_curves_of_all_elements(dtype):
    tensor = normal(90, 80, dtype=dtype)
    tensor[3], tensor[5, 5], tensor[6, 6] = 0.0, float("nan"), 7.0
    _, histograms, _ = tables({"w": tensor, "vector": normal(50)})
    table, curve = sparsity(histograms)
    row = table.iloc[0]
    x = np.sort(np.abs(tensor.double().numpy()[tensor.double().isfinite().numpy()]))
    n, rms = len(x), np.sqrt((x**2).mean())
    assert row["elements"] == n and row["zeros_share"] == (x == 0).mean()
    assert [row[name] for name in ABSOLUTE] == [(x <= bound).mean() for bound in ABSOLUTE.values()]
    assert [row[name] for name in OF_RMS] == [(x <= factor * rms).mean() for factor in OF_RMS.values()]
    assert row["gini"] == pytest.approx(np.abs(x[:, None] - x).mean() / (2 * x.mean()), rel=1e-12)
    assert row["hoyer"] == pytest.approx((n**0.5 - x.sum() / np.sqrt((x**2).sum())) / (n**0.5 - 1), rel=1e-12)
    points = curve[curve["id"] == "w"]
    assert points["pruned"].tolist() == list(PRUNED)
    for point in points.itertuples():
        removed = int(np.floor(n * point.pruned + 1e-9))
        assert point.energy_kept == pytest.approx((x[removed:] ** 2).sum() / (x**2).sum(), rel=1e-12)
        assert point.threshold == x[removed - 1]


def test_nulls_are_those_of_gaussian_tensors():
    tensor = normal(1000, 1000, dtype=torch.float32)
    inventory, histograms, profiles = tables({"w": tensor})
    table, curve = sparsity(histograms)
    row = table.iloc[0]
    assert row["gini"] == pytest.approx(GINI_NULL, abs=1e-3) and row["hoyer"] == pytest.approx(
        row["hoyer_null"], abs=1e-3
    )
    for name in OF_RMS:
        assert row[name] == pytest.approx(row[f"{name}_null"], rel=0.1)
    assert np.allclose(curve["energy_kept"], curve["energy_kept_null"], atol=2e-3)
    found = structure(inventory, lambda row: tensor, near_methods(inventory, 1e12)).iloc[0]
    assert found["two_four_energy"] == pytest.approx(TWO_FOUR_NULL, abs=1e-3)
    assert found[["rows_identical", "rows_opposite", "rows_scaled", "rows_near", "two_four_share"]].tolist() == [0] * 5
    assert dead_units(profiles)[["dead_rows", "dead_cols", "all_zero"]].to_numpy().tolist() == [[0, 0, False]]


def test_two_four_patterns():
    x = normal(50, 26).double().numpy()
    x[0, 0:2], x[1, 4], x[2, 6] = 0.0, np.nan, np.inf
    found = two_four(lambda start, end: x[start:end], 50, 26)
    groups = np.nan_to_num(x, nan=0, posinf=0)[:, :24].reshape(-1, 4)
    kept = np.sort(groups**2, axis=1)[:, 2:].sum()
    assert found["two_four_energy"] == pytest.approx(kept / (groups**2).sum(), rel=1e-12)
    assert found["two_four_share"] == 1 / len(groups)
    pruned = np.where(np.arange(26) % 4 < 2, 0.0, x)[3:]
    assert two_four(lambda start, end: pruned[start:end], 47, 26) == pytest.approx(
        {"two_four_share": 1, "two_four_energy": 1, "two_four_energy_null": TWO_FOUR_NULL}
    )
    for shape in ((0, 8), (8, 3), (4, 4)):
        assert np.isnan(two_four(lambda start, end, s=shape: np.zeros((end - start, s[1])), *shape)["two_four_energy"])


def test_planted_structure_is_found():
    w = normal(64, 64)
    w[10], w[11], w[12], w[13] = w[1], -w[2], w[3] * 2, 0.0
    w[20] = (w[21].float() + normal(1, 64, seed=5)[0].float() * 0.05).bfloat16()
    w[:, 30], w[48:64] = 0.0, 0.0
    inventory, _, profiles = tables({"w": w, "v": normal(64)}, n_heads=[4, None], head_dim=[16, None])
    dead = dead_units(profiles)
    assert dead.iloc[0].tolist() == ["w", False, 17, 1, 1]
    first = inventory.iloc[:1]
    found = structure(first, lambda row: w, near_methods(first, 1e12)).iloc[0]
    assert found[["rows_identical", "rows_opposite", "rows_scaled"]].tolist() == [1, 1, 1]
    assert found["rows_near"] == 6 and found["near_method"] == "exact"  # 1-10, 3-12, 20-21; 2-11 point opposite ways
    off = structure(first, lambda row: w, near_methods(first, 100)).iloc[0]
    assert off["near_method"] == "off: beyond the budget" and pd.isna(off["rows_near"])
    assert near_methods(first.assign(cols=3), 1e12) == {"w": "off: few columns"}


def test_experts_of_zeros():
    zero, some = torch.zeros(8, 8, dtype=torch.bfloat16), normal(8, 8)
    tensors = {"a.0": some, "b.0": zero, "a.1": zero, "b.1": zero, "a.2": some, "b.2": some}
    _, histograms, profiles = tables(tensors, expert=[0, 0, 1, 1, 2, 2])
    table, curve = sparsity(histograms)
    merged = with_structure(table, dead_units(profiles))
    assert dead_experts(merged).to_numpy().tolist() == [["decoder", 0, 3, 1, "1"]]
    assert set(curve["id"]) == {"a.0", "a.2", "b.2"}, "of zeros there is no curve"
    empty = pruning_and_masks(merged.assign(two_four_energy=np.nan, two_four_energy_null=TWO_FOUR_NULL), curve)
    empty.draw_without_rendering()


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (5, 0), (1, 9)])
def test_matrices_of_hardly_any_elements(shape):
    tensor = torch.ones(shape)
    inventory, histograms, profiles = tables({"w": tensor})
    table, _ = sparsity(histograms)
    assert table.loc[0, "elements"] == tensor.numel()
    assert dead_units(profiles).loc[0, "dead_rows"] == 0
    assert structure(inventory, lambda row: tensor, near_methods(inventory, 1e9)).loc[0, "rows_identical"] == 0


def test_a_model_without_a_finite_element_has_all_columns():
    """Findings ask for them by name."""
    _, histograms, _ = tables({"w": torch.full((3, 4), float("nan")), "v": torch.full((5,), float("inf"))})
    table, curve = sparsity(histograms)
    known = metrics.of("sparsity").by_column
    assert table.elements.tolist() == [0, 0] and curve.empty
    assert {name for name in known if name.startswith(("zeros", "below", "gini", "hoyer"))} <= set(table)
