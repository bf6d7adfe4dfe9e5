"""What changed between two tensors, against plain float64 arrays; and the change's spectrum, subspaces and heads."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.stats import ks_2samp

from weight_atlas.comparison.delta_spectra import delta_spectrum
from weight_atlas.comparison.elementwise import coarser_step, difference, segment_of
from weight_atlas.comparison.heads import head_rows, places
from weight_atlas.comparison.sources import Stored, Update, Updated
from weight_atlas.comparison.subspaces import SMALL, overlap
from weight_atlas.comparison.table import lora_error

TYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn, torch.float64]


def compared(a, b, width=None):
    return difference(Stored(a), Stored(b), segment_of(tuple(a.shape), width))


def tensors(shape, dtype, seed=0):
    """A tensor and one in which a third of the elements changed, by much and by little."""
    random = torch.Generator().manual_seed(seed)
    a = torch.randn(shape, generator=random, dtype=torch.float64) * 0.3
    change = torch.randn(shape, generator=random, dtype=torch.float64) * 10.0 ** -torch.randint(
        0, 5, shape, generator=random
    )
    chosen = torch.rand(shape, generator=random) < 1 / 3
    return a.to(dtype), (a + change * chosen).to(dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(37, 130), (1, 200), (300, 3), (77,), (1,), (130, 4099)], ids=str)
def test_counts_and_sums_are_those_of_float64(dtype, shape):
    a, b = (side.float().to(dtype) for side in tensors(shape, dtype))  # float64 is told apart as float32
    found, one, other = compared(a, b), a.double().numpy(), b.double().numpy()
    gap = np.abs(other - one)
    assert (found.n, found.signs) == (one.size, (one * other < 0).sum())
    bits = np.signbit(one) != np.signbit(other)
    assert found.changed == ((one != other) | bits).sum()  # 8-bit types have zeros of both signs
    assert found.square_a == pytest.approx((one**2).sum(), rel=1e-6)
    assert found.square_d == pytest.approx((gap**2).sum(), rel=1e-6)
    assert found.relative == pytest.approx(np.linalg.norm(gap) / np.linalg.norm(one), rel=1e-6)
    assert found.cosine == pytest.approx((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-7)
    if found.changed:
        assert found.largest == pytest.approx(gap.max(), rel=1e-6)
        assert gap.reshape(-1)[found.place] == pytest.approx(gap.max(), rel=1e-6)
        assert (found.value_a, found.value_b) == (one.reshape(-1)[found.place], other.reshape(-1)[found.place])


@pytest.mark.parametrize("dtype", TYPES[:4], ids=str)
def test_a_step_is_the_spacing_of_the_type(dtype):
    a, b = tensors((40, 100), dtype, seed=1)
    one, other = a.double().numpy(), b.double().numpy()
    info = torch.finfo(dtype)
    power = 2.0 ** np.floor(np.log2(np.maximum(np.maximum(abs(one), abs(other)), 1e-300)))
    spacing = np.maximum(power * info.eps, info.smallest_normal * info.eps)
    assert compared(a, b).beyond_step == (abs(other - one) > spacing).sum()
    neighbours = torch.nextafter(a.float(), a.float() + 1) if dtype == torch.float32 else a
    assert compared(a, neighbours).beyond_step == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_every_bfloat16_and_what_lies_next_to_it_differ_by_the_steps_that_they_do(dtype):
    patterns = np.arange(1 << 16).astype(np.uint16)
    apart = [patterns, patterns + 1, patterns - 1, patterns + 2, patterns - 2, patterns - 3, patterns ^ 0x8000]
    a, b = (np.concatenate(side).astype(np.uint16) for side in ([patterns] * len(apart), apart))
    if dtype == torch.float32:
        a, b = a.astype(np.uint32), b.astype(np.uint32)
        a, b = np.append(a, a << 16), np.append(b, (a << 16) - 1 - b % 3)  # denormals, and every power of two
    one, other = (torch.from_numpy(side).view(dtype) for side in (a, b))
    x, y = one.double().numpy(), other.double().numpy()
    info, odd, zero = torch.finfo(dtype), ~(np.isfinite(x) & np.isfinite(y)), (x == 0) | (y == 0)
    x, y = np.where(odd, 0, x), np.where(odd, 0, y)
    power = 2.0 ** np.floor(np.log2(np.maximum(np.maximum(abs(x), abs(y)), info.smallest_normal)))
    beyond = abs(y - x) > power * info.eps
    found = compared(one, other)
    assert found.changed == (a != b).sum() and (found.not_finite_a, found.not_finite_b) == (
        (~one.isfinite()).sum(), (~other.isfinite()).sum(),
    )  # fmt: skip
    assert found.beyond_step == (beyond | (odd & (a != b))).sum()
    top = a.dtype.type(1 << (8 * a.itemsize - 1))
    assert found.signs == (((a & top) != (b & top)) & ~zero).sum()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("scale", [1e-42, 1e-24, 1e-6, 1e4, 1e25])
def test_sums_are_those_of_float64_at_every_scale(dtype, scale):
    a, b = (torch.nan_to_num((side * scale).to(dtype)) for side in tensors((9, 777), torch.float64, seed=12))
    b[3] = a[3]
    b[4:6, 5:] = a[4:6, 5:]
    found, one, other = compared(a, b), a.double().numpy(), b.double().numpy()
    wanted = [(side**2).sum(axis=1) for side in (one, other, other - one)]
    assert np.allclose(found.sums[:, :3], np.transpose(wanted), rtol=1e-13, atol=0)
    signs = np.signbit(one) != np.signbit(other)  # of zeros
    assert np.array_equal(found.sums[:, 3], ((one != other) | signs).sum(axis=1))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.int8], ids=str)
def test_every_value_of_8_bits_is_what_it_is(dtype):
    a, b = (torch.arange(256, dtype=torch.uint8).roll(by).view(dtype) for by in (0, 5))
    found, x, y = compared(a, b), a.float().double().numpy(), b.float().double().numpy()
    odd = ~(np.isfinite(x) & np.isfinite(y))
    assert (found.not_finite_a, found.not_finite_b) == ((~np.isfinite(x)).sum(), (~np.isfinite(y)).sum())
    wanted = [(np.where(odd, 0, side) ** 2).sum() for side in (x, y, y - x)]
    assert [found.square_a, found.square_b, found.square_d] == pytest.approx(wanted, rel=1e-13)
    assert found.changed == ((x != y) & ~(np.isnan(x) & np.isnan(y)) | (np.signbit(x) != np.signbit(y))).sum()


def test_of_two_types_the_coarser_decides():
    exact = torch.randn(20, 80, generator=torch.Generator().manual_seed(2))
    found = compared(exact, exact.bfloat16())
    assert coarser_step(torch.float32, torch.bfloat16)[0] == 2**-7
    assert found.changed > 1500 and found.beyond_step == 0
    assert compared(exact.bfloat16(), exact.bfloat16().float()).changed == 0


def test_the_distance_of_distributions_is_scipys():
    a, b = tensors((60, 100), torch.bfloat16, seed=3)
    wanted = ks_2samp(a.double().flatten(), b.double().flatten()).statistic
    assert compared(a, b).ks == pytest.approx(wanted, abs=1e-12)
    finer = compared(*tensors((60, 100), torch.float32, seed=3)).ks
    assert finer == pytest.approx(wanted, abs=0.01)
    shuffled = a.flatten()[torch.randperm(a.numel(), generator=torch.Generator().manual_seed(4))].reshape(a.shape)
    assert compared(a, shuffled).ks == 0
    two = [torch.randn(1, 4000, generator=torch.Generator().manual_seed(seed)).bfloat16() for seed in range(40)]
    distances = [compared(x, y) for x, y in zip(two[::2], two[1::2], strict=True)]
    assert np.mean([each.ks for each in distances]) == pytest.approx(distances[0].ks_null, rel=0.25)


def test_what_is_not_finite_is_counted_and_left_out():
    a = torch.ones(3, 70, dtype=torch.bfloat16)
    b = a.clone()
    a[0, 1], b[2, 3], b[2, 4], b[1, 1] = torch.nan, torch.inf, torch.nan, 2
    found = compared(a, b)
    assert (found.changed, found.not_finite_a, found.not_finite_b) == (4, 1, 2)
    assert (found.place, found.largest) == (1, math.inf)
    assert (found.square_a, found.square_d) == (207, 1)
    same = compared(b, b)
    assert (same.changed, same.not_finite_a, same.ks, same.cosine) == (0, 2, 0, 1)


def test_zeros_have_no_direction():
    zero, one = torch.zeros(4, 80), torch.ones(4, 80)
    assert math.isnan(compared(zero, zero).cosine) and math.isnan(compared(zero, zero).relative)
    assert compared(zero, one).relative == math.inf
    empty = compared(torch.zeros(0, 80), torch.zeros(0, 80))
    assert (empty.n, empty.changed) == (0, 0)
    for dtype in TYPES[:4]:
        found = compared(zero.to(dtype), (-zero).to(dtype))
        assert (found.n, found.changed) == (320, 320)  # bits differ, and no value does
        assert (found.signs, found.beyond_step, found.square_d, found.largest) == (0, 0, 0, 0)


@pytest.mark.parametrize("shape", [(50, 30), (30, 50), (40, 40), (1, 64), (64, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_spectrum_of_the_change_is_that_of_an_svd(shape, dtype):
    a, b = tensors(shape, dtype, seed=5)
    found = delta_spectrum(Stored(a), Stored(b), float(a.double().norm()))
    wanted = np.linalg.svd(b.double().numpy() - a.double().numpy(), compute_uv=False)
    assert np.abs(found.sigma - wanted).max() <= found.error_bound * wanted[0]
    assert found.frobenius == pytest.approx(np.linalg.norm(wanted))
    b[0, 0] = torch.nan
    assert delta_spectrum(Stored(a), Stored(b), 1.0).method == "not finite"
    assert delta_spectrum(Stored(a), Stored(a), 1.0).method == "zero"


def test_an_update_has_the_spectrum_of_its_product_and_every_number_of_the_merged_matrix():
    random = torch.Generator().manual_seed(6)
    weight = torch.randn(96, 70, generator=random)
    up, down = (torch.randn(shape, generator=random).double() for shape in ((96, 4), (4, 70)))
    base = Stored(weight)
    merged = Updated(base, Update(up, down, 0.5, torch.float32))
    wanted = weight.double() + 0.5 * up @ down
    found = delta_spectrum(base, merged, 1.0)
    assert found.method == "factors"
    assert np.allclose(found.sigma, np.linalg.svd((0.5 * up @ down).numpy(), compute_uv=False), atol=1e-10)
    other = difference(base, merged, 70)
    assert other.relative == pytest.approx(float((wanted - weight).norm() / weight.double().norm()), rel=1e-6)
    assert other.signs == int((torch.signbit(wanted) != torch.signbit(weight)).sum())
    back = delta_spectrum(merged, base, 1.0)
    assert np.allclose(back.sigma, found.sigma)


def test_magnitudes_scale_the_rows_as_dora_does():
    random = torch.Generator().manual_seed(7)
    weight, magnitudes = torch.randn(90, 66, generator=random), torch.rand(90, generator=random).double() + 0.5
    up, down = (torch.randn(shape, generator=random).double() for shape in ((90, 2), (2, 66)))
    base = Stored(weight)
    changed = Updated.of(base, Update(up, down, 2.0, torch.float32), magnitudes, step=17)
    direction = weight.double() + 2 * up @ down
    wanted = magnitudes[:, None] * direction / direction.norm(dim=1, keepdim=True)
    assert torch.allclose(changed.part(slice(None), slice(None)), wanted)
    sigma = delta_spectrum(base, changed, 1.0)
    assert sigma.method == "gram"
    assert np.allclose(sigma.sigma, np.linalg.svd((wanted - weight.double()).numpy(), compute_uv=False), atol=1e-6)


def test_two_updates_differ_by_a_matrix_of_both_ranks():
    random = torch.Generator().manual_seed(8)
    sides = [
        Update(
            torch.randn(40, 3, generator=random).double(),
            torch.randn(3, 30, generator=random).double(),
            scale,
            torch.float32,
        )
        for scale in (1.0, 0.25)
    ]
    wanted = [side.part(slice(None), slice(None)).numpy() for side in sides]
    sigma = delta_spectrum(*sides, 1.0).sigma
    assert np.allclose(sigma, np.linalg.svd(wanted[1] - wanted[0], compute_uv=False), atol=1e-10)


def test_the_error_of_a_rank_is_what_the_best_product_leaves():
    matrix = np.random.default_rng(9).standard_normal((20, 12))
    left, sigma, right = np.linalg.svd(matrix)
    best = left[:, :5] * sigma[:5] @ right[:5]
    assert lora_error(sigma, 5) == pytest.approx(np.linalg.norm(matrix - best) / np.linalg.norm(matrix))
    assert lora_error(sigma, 12) == lora_error(sigma, 99) == 0


@pytest.mark.parametrize("size", [60, SMALL + 40])
def test_overlaps_are_those_of_the_principal_angles(size):
    random = np.random.default_rng(10)
    # A spectrum that falls, as those of trained matrices do.
    left, right = (np.linalg.qr(random.standard_normal((n, size)))[0] for n in (size + 30, size))
    a = (left * 1.15 ** -np.arange(size)) @ right.T
    b = a + 0.01 * random.standard_normal(a.shape) / size**0.5
    found = overlap(torch.from_numpy(a), torch.from_numpy(b), 6)
    one, other = (np.linalg.svd(matrix) for matrix in (a, b))
    angles = [subspace_angles(one[0][:, :6], other[0][:, :6]), subspace_angles(one[2][:6].T, other[2][:6].T)]
    assert found.left == pytest.approx(np.mean(np.cos(angles[0]) ** 2), abs=1e-4)
    assert found.right == pytest.approx(np.mean(np.cos(angles[1]) ** 2), abs=1e-4)
    assert found.angle == pytest.approx(np.degrees(max(map(max, angles))), abs=0.1)
    assert (found.left_null, found.right_null) == (6 / (size + 30), 6 / size)


def test_random_subspaces_overlap_as_their_null_says():
    made = [torch.randn(40, 50, generator=torch.Generator().manual_seed(seed)) for seed in range(40)]
    found = [overlap(a, b, 5) for a, b in zip(made[::2], made[1::2], strict=True)]
    assert np.mean([each.left for each in found]) == pytest.approx(5 / 40, rel=0.2)
    assert np.mean([each.right for each in found]) == pytest.approx(5 / 50, rel=0.2)


@pytest.mark.parametrize("by_columns", [False, True])
def test_heads_have_their_own_change_and_are_found_at_their_new_places(by_columns):
    a = torch.randn(64, 72, generator=torch.Generator().manual_seed(11))
    a = a.T.contiguous() if by_columns else a  # four heads of 16 rows, or of 16 columns
    b = a.clone()
    cut = (lambda m, h: m[:, 16 * h : 16 * h + 16]) if by_columns else (lambda m, h: m[16 * h : 16 * h + 16])
    cut(b, 0)[:], cut(b, 2)[:] = cut(a, 2).clone(), cut(a, 0).clone()
    cut(b, 3)[:] *= 1.01
    found = head_rows(compared(a, b, 16 if by_columns else None), tuple(a.shape), 4, by_columns)
    wanted = [float((cut(b, h) - cut(a, h)).double().pow(2).sum()) for h in range(4)]
    assert [each["square_d"] for each in found] == pytest.approx(wanted, rel=1e-5)
    assert [each["changed"] for each in found] == [int((cut(a, h) != cut(b, h)).sum()) for h in range(4)]
    origin, cosine = places(a, b, 4, by_columns)
    assert origin.tolist() == [2, 1, 0, 3] and cosine == pytest.approx(np.ones(4), abs=1e-6)
