"""Value histograms against numpy and scipy in float64 on the same elements."""

import threading

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weight_atlas.errors import AtlasError
from weight_atlas.weights import histogram_of_buckets, histogram_of_patterns
from weight_atlas.weights.distribution import BINNED, EXACT, PERCENTILES
from weight_atlas.weights.histogram import Histogram
from weight_atlas.weights.stored_types import stored_as
from weight_atlas.weights.value_histogram import block_histogram, value_histogram

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
EIGHT = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check(tensor: torch.Tensor, rounded: bool = False) -> Histogram:
    """Compare all that a histogram says with plain float64 arithmetic on the elements."""
    found = value_histogram(tensor)
    elements = tensor.to(torch.float32 if tensor.element_size() == 1 else tensor.dtype).double().numpy()
    flat = elements.ravel()
    x = flat[np.isfinite(flat)]
    assert (found.n, found.nan, found.inf) == (flat.size, np.isnan(flat).sum(), np.isinf(flat).sum())
    assert found.zeros == (x == 0).sum()
    assert found.negative_zeros == ((x == 0) & np.signbit(x)).sum()
    assert found.near_zeros == tuple((np.abs(x) <= bound).sum() for bound in (1e-6, 1e-4, 1e-2))
    tiny = torch.finfo(tensor.dtype).smallest_normal if tensor.is_floating_point() else 0
    assert found.subnormal == ((x != 0) & (np.abs(x) < tiny)).sum()
    assert (found.min, found.max, found.absmax) == (x.min(), x.max(), np.abs(x).max())
    at = elements[(found.absmax_row, found.absmax_col) if elements.ndim == 2 else found.absmax_row]
    assert abs(at) == found.absmax

    scaled = x / found.absmax if found.absmax else x  # numpy's own powers overflow
    moments = found.moments
    scale = max(found.absmax, np.finfo(float).tiny)
    assert moments.mean == pytest.approx(scaled.mean() * scale, rel=1e-12, abs=1e-15 * scale)
    assert moments.std == pytest.approx(scaled.std() * scale, rel=1e-12, abs=1e-15 * scale)
    if x.min() < x.max():
        assert moments.skew == pytest.approx(scipy.stats.skew(scaled), rel=1e-9, abs=1e-9)
        assert moments.kurtosis == pytest.approx(scipy.stats.kurtosis(scaled), rel=1e-9, abs=1e-9)
    else:
        assert (moments.std, np.isnan(moments.skew), np.isnan(moments.kurtosis)) == (0, True, True)
    assert moments.l1 == pytest.approx(np.abs(scaled).sum() * scale, rel=1e-12)
    assert moments.l2 == pytest.approx(np.sqrt((scaled**2).sum()) * scale, rel=1e-12)

    sorted_by = x.astype(np.float32).astype(float) if rounded else x
    assert found.percentiles == pytest.approx(np.percentile(sorted_by, PERCENTILES), rel=1e-15, abs=0)
    check_bins(found, x)
    return found


def check_bins(found: Histogram, x: np.ndarray) -> None:
    assert found.counts.dtype == np.int64 and found.values.dtype == np.float64
    assert found.counts.min() > 0 and (np.diff(found.values) > 0).all()
    assert not np.signbit(found.values[found.values == 0]).any()
    if found.kind == EXACT:
        values, counts = np.unique(x, return_counts=True)
        assert np.array_equal(found.values, values) and np.array_equal(found.counts, counts)
        return
    # Buckets by float32 patterns, made here by truncation rather than by ordered integers.
    truncated = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.int64)
    truncated[x == 0] = -1
    means = sorted((x[truncated == bucket].mean(), (truncated == bucket).sum()) for bucket in np.unique(truncated))
    assert found.counts.tolist() == [count for _, count in means]
    assert found.values == pytest.approx([mean for mean, _ in means], rel=1e-12, abs=0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_matrix_of_each_type(dtype):
    weights = normal(400, 300) * 0.02
    weights[7, 11] = -3.3
    weights[0, :50] = 0.0
    weights[1, :30] = -0.0
    found = check(weights.to(dtype), rounded=dtype == torch.float64)
    assert (found.absmax_row, found.absmax_col, found.zeros, found.negative_zeros) == (7, 11, 80, 30)
    assert found.kind == (EXACT if dtype.itemsize == 2 else BINNED)


@pytest.mark.parametrize("dtype", EIGHT)
def test_eight_bit_floats(dtype):
    assert check((normal(200, 30) * 0.5).float().to(dtype)).kind == EXACT
    every = torch.arange(256, dtype=torch.uint8).view(dtype)
    check(every)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [500, 70_000])
def test_nan_infinities_and_subnormals_are_kept_apart(dtype, size):
    weights = (normal(size).abs() + 1).to(dtype)
    tiny = torch.finfo(dtype).smallest_normal
    weights[5:9] = float("nan")
    weights[9:11] = float("inf")
    weights[11] = -float("inf")
    weights[20:23] = tiny / 2
    weights[23] = -tiny / 4
    found = check(weights, rounded=dtype == torch.float64 and size > 65_536)
    assert (found.nan, found.inf, found.subnormal) == (4, 3, 4)
    nothing = value_histogram(torch.full((size,), float("nan"), dtype=dtype))
    assert (nothing.nan, nothing.absmax_row, len(nothing.values)) == (size, None, 0)
    assert np.isnan([nothing.min, nothing.moments.mean, *nothing.percentiles]).all()


@pytest.mark.parametrize("dtype", [*FLOATS, *EIGHT])
@pytest.mark.parametrize("size", [1, 2, 65_536, 65_537])
@pytest.mark.parametrize("value", [0.0, -0.0, 0.75, -1.5])
def test_constant_tensors(dtype, size, value):
    found = check(torch.full((size,), value).to(dtype))
    assert found.moments.mean == value and found.percentiles == (value,) * len(PERCENTILES)


def test_a_constant_that_float64_sums_round():
    constant = torch.full((100_000,), 0.1, dtype=torch.float64)
    assert constant.numpy().cumsum()[-1] != 10_000
    found = check(constant)
    assert found.moments.std == 0 and found.moments.mean == 0.1


@pytest.mark.parametrize(("dtype", "size"), [(torch.bfloat16, 1000), (torch.float32, 1000), (torch.float32, 70_000)])
def test_huge_and_tiny_magnitudes_do_not_overflow(dtype, size):
    check((normal(size) * 1e37).to(dtype))
    check((normal(size) * 1e-38).to(dtype))
    spread = normal(size) * 10 ** torch.linspace(-44, 37, size, dtype=torch.float64)
    check(spread.to(dtype))


@pytest.mark.parametrize("size", [1000, 70_000])
@pytest.mark.parametrize("magnitude", [1e300, 1e-300])
def test_float64_beyond_float32(size, magnitude):
    weights = normal(size) * magnitude
    found, plain = value_histogram(weights), normal(size).numpy()
    assert found.moments.std == pytest.approx(plain.std() * magnitude, rel=1e-12)
    assert found.moments.kurtosis == pytest.approx(scipy.stats.kurtosis(plain), rel=1e-9)
    assert found.max == weights.max().item()
    largest = torch.finfo(torch.float32).max
    rounded = weights.clamp(-largest, largest).float() if size > 65_536 else weights
    assert found.percentiles == pytest.approx(np.percentile(rounded.double().numpy(), PERCENTILES), rel=1e-15)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [3000, 70_000])
def test_large_mean_with_small_spread(dtype, size):
    check((normal(size) * 0.05 + 100).to(dtype), rounded=dtype == torch.float64 and size > 65_536)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.int16])
def test_the_compiled_way_of_large_tensors_and_numpys_agree(dtype, monkeypatch):
    weights = (normal(70, 300) * 20).float().to(dtype)
    plain = check(weights).row()
    monkeypatch.setattr(histogram_of_patterns, "_FEW", 0)
    compiled = check(weights).row()
    for name, value in plain.items():
        assert np.array_equal(compiled[name], value), name


def test_float32_that_holds_bfloat16_stays_exact():
    found = check(normal(300, 300).bfloat16().float())
    assert found.kind == EXACT
    assert np.array_equal(found.values, value_histogram(normal(300, 300).bfloat16()).values)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
@pytest.mark.parametrize("size", [100, 70_000])
def test_integers(dtype, size):
    low = 0 if dtype in (torch.uint8, torch.uint16) else -100
    values = torch.randint(low, 100, (size,), generator=torch.Generator().manual_seed(0)).to(dtype)
    check(values)


def test_booleans():
    found = check(normal(500) > 0.5)
    assert found.values.tolist() == [0, 1] and found.moments.mean == pytest.approx((normal(500) > 0.5).double().mean())


def test_types_without_a_histogram():
    with pytest.raises(AtlasError, match="complex64"):
        value_histogram(torch.zeros(3, dtype=torch.complex64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int8])
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_no_elements(dtype, shape):
    found = value_histogram(torch.zeros(shape, dtype=dtype))
    assert (found.n, found.zeros, found.absmax_row, len(found.values)) == (0, 0, None, 0)
    assert np.isnan(found.moments.mean) and found.moments.l2 == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_place_of_the_largest_in_any_layout(dtype):
    weights = normal(300, 400).to(dtype)
    weights[123, 45] = -50
    for tensor in (
        weights,
        weights.T,
        weights[::2],
        weights[:, 1::2],
        weights[:, None, :],
        weights[100:],
        weights[123],
    ):
        found = value_histogram(tensor)
        flat = tensor.reshape(tensor.shape[0], -1) if tensor.ndim > 1 else tensor
        at = flat[found.absmax_row, found.absmax_col] if tensor.ndim > 1 else flat[found.absmax_row]
        assert abs(at.item()) == found.absmax == tensor.abs().max().item()
        assert (found.absmax_col is None) == (tensor.ndim == 1)
    assert value_histogram(torch.tensor(3.0, dtype=dtype)).absmax_row == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2, torch.float32, torch.int64])
@pytest.mark.parametrize("step", [1, 7, 40_000, 99_999, 100_000])
def test_blocks_give_what_the_whole_gives(dtype, step):
    weights = (normal(50, 4 if step < 10 else 2000) * 3).float().to(dtype)
    name, flat = stored_as(weights)
    blocks = [flat[start : start + step] for start in range(0, len(flat), step)]
    found = block_histogram(lambda: blocks, name, tuple(weights.shape)).row()
    whole = value_histogram(weights).row()
    assert found.pop("distribution") == whole.pop("distribution")
    for name, value in whole.items():
        # Sums over other blocks round otherwise.
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-15), name


def test_percentiles_among_zeros_and_the_smallest_subnormals():
    random = np.random.default_rng(0)
    smallest = np.finfo(np.float32).smallest_subnormal
    weights = (random.integers(1, 900, 90_000).astype(np.float32) * smallest) * random.choice([-1, 1], 90_000)
    weights[random.random(90_000) < 0.1] = 0.0
    weights[random.random(90_000) < 0.1] = -0.0
    found = check(torch.from_numpy(weights.astype(np.float32)))
    assert found.kind == BINNED and found.percentiles[4] < 0 < found.percentiles[6]


@pytest.mark.parametrize("bound", [0.1, 0.2, 0.3, 1e-6, 0.5])
def test_a_bound_in_float32_is_not_above_the_bound(bound):
    floor = histogram_of_buckets._floor(bound, np.dtype(np.float32))
    assert float(floor) <= bound < float(np.nextafter(floor, np.float32(1)))


def test_chunk_borders_of_wide_types(monkeypatch):
    weights = normal(70_001).float()
    weights[[0, 4095, 4096, 70_000]] = torch.tensor([0.0, float("nan"), 9.0, -0.0])
    whole = check(weights)
    monkeypatch.setattr(histogram_of_buckets, "_CHUNK", 4096)
    chunked = check(weights)
    assert chunked.absmax_row == whole.absmax_row == 4096
    assert np.array_equal(chunked.counts, whole.counts)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=60), st.sampled_from([torch.bfloat16, torch.float16]))
def test_any_patterns_of_sixteen_bits(patterns, dtype):
    tensor = torch.from_numpy(np.array(patterns, dtype=np.uint16).view(np.int16)).view(dtype)
    if torch.isfinite(tensor).any():
        check(tensor)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_any_floats_in_two_levels(values, seed):
    # Enough of each for the way of large tensors, in an order of its own.
    repeated = np.resize(np.array(values, dtype=np.float32), 65_600)
    np.random.default_rng(seed).shuffle(repeated)
    if np.isfinite(repeated).any():
        check(torch.from_numpy(repeated))


def test_the_same_bytes_whatever_runs_beside():
    weights = [(normal(300, 300, seed=seed) * 0.1).to(dtype) for seed in range(4) for dtype in FLOATS]
    alone = [value_histogram(tensor) for tensor in weights]
    beside: list[Histogram | None] = [None] * len(weights)

    def work(index: int) -> None:
        beside[index] = value_histogram(weights[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(weights))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, beside, strict=True):
        assert one.values.tobytes() == other.values.tobytes() and one.counts.tobytes() == other.counts.tobytes()
        assert one.moments == other.moments and one.percentiles == other.percentiles
