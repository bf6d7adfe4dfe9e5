"""Profiles of matrices by row, column and cell, against numpy in float64 and exact sums."""

import math

import numpy as np
import pytest
import torch

from weight_atlas.weights import profile as profiles
from weight_atlas.weights.profile import Profiler
from weight_atlas.weights.stored_types import stored_as

SHAPES = [(1, 1), (1, 700), (700, 1), (3, 5), (300, 64), (64, 300), (257, 1025), (17, 33), (1030, 31), (5, 2000)]
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.3).to(dtype)


def adversarial(dtype: torch.dtype, rows: int = 40, columns: int = 70) -> torch.Tensor:
    """Zeros of both signs, subnormal and huge numbers, NaN with a payload, infinities, a row and a column of zeros."""
    x = random(rows, columns, dtype=dtype)
    info = torch.finfo(dtype)
    huge = info.max if dtype != torch.float64 else 1e300  # whose sums do not overflow, while their squares do
    special = [0.0, -0.0, info.tiny, info.smallest_normal / 2, -info.smallest_normal / 4, huge, -huge]
    special += [float("nan"), -float("nan")]
    if dtype != torch.float8_e4m3fn:
        special += [float("inf"), -float("inf")]
    for place, value in enumerate(special):
        x[3 * place % rows, 5 * place % columns] = value
        x[7, place] = value
    x[11], x[:, 13], x[12] = 0.0, 0.0, float("nan")
    return x


def profiled(tensor: torch.Tensor, most: int = 256, block: int | None = None) -> profiles.Profile:
    name, flat = stored_as(tensor)
    profiler = Profiler(name, tuple(tensor.shape), most)
    for start in range(0, len(flat), block or max(1, len(flat))):
        profiler.add(flat[start : start + (block or len(flat))])
    return profiler.profile()


def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "_FEW", -1)


def check(tensor: torch.Tensor, found: profiles.Profile, most: int = 256) -> None:
    x = tensor.double().numpy()
    lost = ~np.isfinite(x)
    x = np.where(lost, 0.0, x)
    for table, lines in ((found.by_row, x), (found.by_column, x.T)):
        missing = lost if lines is x else lost.T
        exact = np.array([math.fsum(line) for line in lines])
        size = np.array([math.fsum(np.abs(line)) for line in lines])
        assert (np.abs(table[0] - exact) <= 64 * 2.0**-53 * size).all()
        with np.errstate(over="ignore"):
            squares = (lines**2).sum(1)
        assert np.allclose(table[1], squares, rtol=64 * 2.0**-53, atol=0, equal_nan=True)
        assert np.array_equal(table[2], np.abs(lines).max(1, initial=0))
        assert np.array_equal(table[3], ((lines == 0) & ~missing).sum(1)) and np.array_equal(table[4], missing.sum(1))
    height, width = (max(1, math.ceil(size / most)) for size in x.shape)
    assert (found.height, found.width) == (height, width) and max(found.cell_mean.shape) <= most
    for band in range(found.cell_mean.shape[0]):
        for cell in range(found.cell_mean.shape[1]):
            at = np.s_[band * height : (band + 1) * height, cell * width : (cell + 1) * width]
            known = x[at][~lost[at]]
            with np.errstate(over="ignore"):
                mean, largest = (np.float32(known.mean()), np.abs(known).max()) if len(known) else (np.nan, np.nan)
                assert found.cell_mean[band, cell] == pytest.approx(mean, rel=1e-5, abs=1e-300, nan_ok=True)
                assert np.array_equal(found.cell_absmax[band, cell], np.float32(largest), equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_ways_give_the_truth_and_the_same_bits(shape, monkeypatch):
    for dtype in DTYPES[:1] if math.prod(shape) > 9_000 else DTYPES:
        tensor = random(*shape, dtype=dtype)
        few = profiled(tensor, most=32)
        check(tensor, few, most=32)
        with monkeypatch.context() as patched:
            compiled(patched)
            for block in (None, 1, 7, shape[1], 3 * shape[1] + 2) if math.prod(shape) < 5_000 else (None, 999):
                same(profiled(tensor, most=32, block=block), few)


def same(found: profiles.Profile, expected: profiles.Profile) -> None:
    for name, value in expected.row().items():
        assert np.array_equal(found.row()[name], value, equal_nan=True), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_of_every_kind(dtype, monkeypatch):
    tensor = adversarial(dtype)
    few = profiled(tensor)
    check(tensor, few)
    assert few.by_row[4, 12] == 70 and few.by_row[3, 11] == 70 and few.by_column[3, 13] >= 37
    assert np.isnan(few.cell_mean[12]).all()
    compiled(monkeypatch)
    same(profiled(tensor), few)
    assert np.signbit(few.by_row[0, 11]) == 0, "a sum of -0 is 0"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.int32, torch.int64])
def test_integers(dtype):
    tensor = (random(20, 30) * 9).to(dtype)
    check(tensor, profiled(tensor))


def test_no_rows_and_no_columns():
    for shape in ((0, 5), (5, 0), (0, 0)):
        found = profiled(torch.zeros(shape))
        assert found.by_row.shape == (5, shape[0]) and found.by_column.shape == (5, shape[1])
        assert not found.by_row.any() and not found.by_column.any() and found.cell_mean.size == 0


def test_all_bit_patterns_of_16_bits(monkeypatch):
    compiled(monkeypatch)
    for dtype in (torch.bfloat16, torch.float16):
        tensor = torch.arange(65536).to(torch.int32).to(torch.uint16).view(dtype).reshape(256, 256)
        check(tensor, profiled(tensor, most=16), most=16)


def test_a_matrix_of_many_elements_is_compiled(monkeypatch):
    seen = []
    kernels = __import__("weight_atlas.weights.profile_kernels", fromlist=["x"])
    original = kernels.profile_rows
    monkeypatch.setattr(kernels, "profile_rows", lambda *arguments: (seen.append(1), original(*arguments)))
    tensor = random(1025, 513, dtype=torch.bfloat16)
    check(tensor, profiled(tensor, most=64, block=100_000), most=64)
    assert seen


def test_blocks_are_passed_on_and_profiled_once():
    tensor = random(10, 10)
    name, flat = stored_as(tensor)
    profiler = Profiler(name, (10, 10))
    watched = profiler.watching(lambda: iter([flat[:33], flat[33:]]))
    for _ in range(2):
        assert np.array_equal(np.concatenate(list(watched())), flat)
    check(tensor, profiler.profile())


def test_an_empty_block_is_no_row():
    profiler = Profiler("F32", (0, 5))
    profiler.add(np.zeros(0, dtype=np.float32))
    assert profiler.profile().by_column.shape == (5, 5)
