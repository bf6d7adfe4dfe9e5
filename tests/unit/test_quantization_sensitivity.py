"""Quantization errors from the weights alone: kernels against torch, histograms against rows, nulls against draws."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.figures.quantization import loss_by_channels, schemes_by_bits, spoken, sqnr_by_layer
from weight_atlas.quantization.by_histogram import Values, extent_of, sums_by_values
from weight_atlas.quantization.errors import Source, Sums, kept_errors, matrix_errors, sixteen_bits
from weight_atlas.quantization.gaussian import gaussian_nulls, kept_gain, largest_of
from weight_atlas.quantization.quantizers import Scheme, bits_per_weight, error_of, quantized
from weight_atlas.quantization.readiness import by_layer, by_scheme, by_tensor, label
from weight_atlas.quantization.rounding import Extent, Rows
from weight_atlas.quantization.sensitivity import quantization_sensitivity
from weight_atlas.settings.quantization import SCHEMES, QuantizationSensitivity
from weight_atlas.weights.value_histogram import value_histogram

ALL = [
    Scheme.named(name) for name in [*SCHEMES, "int3/channel/asymmetric", "int8/group:48/clipped", "int4/group:64/full"]
]
NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}
WIDE = {"fp32": torch.float32, "fp64": torch.float64}
POOL = ThreadPoolExecutor(2)


def normal(rows, cols, seed=0):
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed)) * 0.02


def outlier(rows=5, cols=130):
    w = normal(rows, cols)
    w[0, 3] = -7.5
    return w


MATRICES = {
    "normal": normal(6, 128),
    "odd width": normal(7, 41),
    "one row": normal(1, 300),
    "one element": torch.tensor([[-0.3]]),
    "one column": normal(9, 1),
    "outlier": outlier(),
    "all equal": torch.full((3, 40), 0.25),
    "zeros": torch.zeros(3, 40),
    "negative zeros": torch.full((2, 33), -0.0),
    "positive": normal(4, 64).abs() + 1,
    "subnormal": normal(3, 64) * 1e-37,
    "huge": normal(3, 64) / 0.02 * 5e37,
}


def row_of(w, name="w", role="W_up", layer=0):
    """A row of the table of histograms."""
    shape = {"rows": len(w), "cols": w.shape[1]}
    identity = {"id": name, "role": role, "stack": "decoder", "layer": layer, "expert": pd.NA, "dtype": "x", **shape}
    return identity | value_histogram(w).row()


def of(w, schemes=ALL):
    """Values, extent and source of a matrix."""
    row = SimpleNamespace(**row_of(w))
    values = Values.of(row)
    extent = extent_of(values, schemes)
    return values, extent, Source(w, extent, clean=bool(values.not_finite) or w.dtype == torch.float64)


@pytest.mark.parametrize("name", MATRICES)
def test_rows_are_rounded_as_torch_rounds_them(name):
    w = MATRICES[name]
    for scheme in ALL:
        _, extent, source = of(w, [scheme])
        ours = Rows(source.rows(0, len(w)), extent).rounded(scheme)
        theirs = quantized(w, scheme)
        if name == "huge" and not scheme.symmetric:  # torch's range overflows
            assert np.isfinite(ours).all()
        elif scheme.clipped and scheme.granularity == "tensor":  # the search goes over the values of the histogram
            assert error_of(w, torch.from_numpy(ours))["mse"] == pytest.approx(error_of(w, theirs)["mse"], rel=0.03)
        else:
            np.testing.assert_array_equal(ours, theirs.numpy(), err_msg=scheme.name)


@pytest.mark.parametrize("dtype", [*NARROW, *WIDE])
@pytest.mark.parametrize("name", ["normal", "outlier", "odd width", "one element", "zeros", "all equal"])
def test_errors_are_those_of_numpy(dtype, name):
    w = (MATRICES[name] * 4).to((NARROW | WIDE)[dtype])
    values, extent, source = of(w)
    measured = matrix_errors(source, ALL, POOL)
    exact = w.double().numpy()
    for scheme in ALL:
        q = Rows(source.rows(0, len(w)), extent).rounded(scheme).astype(np.float64)
        sums = Sums.of(measured.rows[scheme], w.shape[1])
        known = {"squared_error": ((exact - q) ** 2).sum(), "energy": (exact**2).sum()}
        assert {key: getattr(sums, key) for key in known} == pytest.approx(
            known, rel=1e-6 if dtype == "fp64" else 1e-12
        )
        norm = np.linalg.norm(exact) * np.linalg.norm(q)
        assert sums.cosine == pytest.approx((exact * q).sum() / norm if norm else np.nan, nan_ok=True, abs=1e-7)
        assert np.isnan(sums.cosine) or sums.cosine <= 1
        if scheme.granularity == "tensor" and dtype in NARROW:
            counted = sums_by_values(values, extent, scheme)
            for key in ("squared_error", "product", "energy", "n"):
                assert getattr(counted, key) == pytest.approx(getattr(sums, key), rel=1e-12, abs=1e-30), (scheme, key)


def test_what_is_not_finite_counts_as_zero():
    w = outlier().to(torch.bfloat16)
    broken = w.clone()
    broken[1, 2], broken[2, 5], broken[3, 100] = float("nan"), float("inf"), float("-inf")
    zeroed = torch.where(torch.isfinite(broken), broken, torch.zeros_like(broken))
    (values, extent, source), (_, _, clean) = of(broken), of(zeroed)
    ours, theirs = matrix_errors(source, ALL, POOL), matrix_errors(clean, ALL, POOL)
    for scheme in ALL:
        np.testing.assert_array_equal(ours.rows[scheme], theirs.rows[scheme])
        if scheme.granularity == "tensor":
            counted = sums_by_values(values, extent, scheme)
            assert counted.squared_error == pytest.approx(ours.rows[scheme][:, 0].sum(), rel=1e-12)
            assert counted.n == w.numel()


def test_chunks_and_threads_change_nothing(monkeypatch):
    w = normal(40, 96).to(torch.bfloat16)
    _, _, source = of(w)
    whole = matrix_errors(source, ALL, ThreadPoolExecutor(1))
    monkeypatch.setattr("weight_atlas.quantization.errors._CHUNK", 3 * 96)
    parts = matrix_errors(source, ALL, POOL)
    assert len(source.chunks()) == 14
    assert all(np.array_equal(whole.rows[scheme], parts.rows[scheme]) for scheme in ALL)
    assert np.array_equal(whole.high, w.float().amax(0).numpy())
    assert np.array_equal(whole.low, w.float().amin(0).numpy())


def test_clipping_never_costs_and_is_found_by_trying_all():
    w = outlier()
    for name in ("int4/group:32", "int4/channel", "int4/tensor", "int4/group:64/asymmetric"):
        plain, clipped = Scheme.named(name), Scheme.named(f"{name}/clipped")
        errors = [error_of(w, quantized(w, scheme))["squared_error"] for scheme in (plain, clipped)]
        assert errors[1] <= errors[0]
    block = w[:1, :32]
    by_hand = []
    for ratio in Scheme.named("int4/channel/clipped").ratios:
        step = block.abs().max() * ratio / 7
        by_hand.append(float(((block - (block / step).round().clamp(-7, 7) * step).double() ** 2).sum()))
    ours = error_of(block, quantized(block, Scheme.named("int4/channel/clipped")))["squared_error"]
    assert ours == pytest.approx(min(by_hand), rel=1e-6)


def test_nulls_are_what_gaussian_matrices_show():
    shape, schemes = (96, 256), [scheme for scheme in ALL if scheme.granularity != "group:48"]
    nulls = gaussian_nulls(shape, schemes)
    draws = [normal(*shape, seed=seed) for seed in range(8)]
    for scheme in schemes:
        seen = [error_of(w, quantized(w, scheme)) for w in draws]
        sqnr, null = np.array([each["sqnr_db"] for each in seen]), nulls[scheme]
        assert abs(sqnr.mean() - null.sqnr_db) < 4 * null.error / len(draws) ** 0.5 + null.error, scheme.name
        assert sqnr.std(ddof=1) < 3 * null.error
        # Where the range is clipped, the row of the largest weight decides.
        close = 0.35 if scheme.clipped and scheme.granularity == "tensor" else 0.06
        assert np.median([each["worst_row"] for each in seen]) == pytest.approx(null.worst_row, rel=close), scheme.name
        assert null.cosine == pytest.approx(np.mean([_cosine(w, quantized(w, scheme)) for w in draws]), abs=2e-3)


def _cosine(w, q):
    return float((w.double() * q.double()).sum() / w.double().norm() / q.double().norm())


def test_published_losses_of_a_gaussian():
    nulls = gaussian_nulls((1000, 1024), ALL)
    by_name = {scheme.name: null.sqnr_db for scheme, null in nulls.items()}
    assert by_name["int8/tensor"] == pytest.approx(38.9, abs=0.3)
    assert by_name["int4/tensor"] == pytest.approx(13.6, abs=0.5)
    assert by_name["int4/group:128"] == pytest.approx(18.6, abs=0.1)
    assert by_name["int4/group:128/asymmetric"] == pytest.approx(20.0, abs=0.1)
    draws = np.random.default_rng(0).standard_normal((400, 1000))
    assert largest_of(1000) == pytest.approx(np.median(np.abs(draws).max(1)), abs=0.05)


def test_kept_columns_leave_their_blocks_and_stay_exact():
    w = normal(64, 128)
    w[:, 5] *= 100
    w[:, 9] *= 50
    kept = np.array([5, 9])
    others = w.clone()
    others[:, kept] = 0
    for name in ("int8/tensor", "int4/group:32", "int4/channel"):
        scheme = Scheme.named(name)
        source = Source(w, Extent(float(others.min()), float(others.max()), {}))
        (sums,) = kept_errors(source, kept, [scheme], POOL)
        expected = quantized(others, scheme)
        expected[:, kept] = w[:, kept].half().float()
        assert sums.squared_error == pytest.approx(error_of(w, expected)["squared_error"], rel=1e-9)
        assert sums.energy == pytest.approx(float((w.double() ** 2).sum()))
    gains = [kept_gain(64, 128, Scheme.named("int8/tensor"), number) for number in (1, 8)]
    assert 0 < gains[0] < gains[1] < 3


def test_sixteen_bits_are_torchs():
    w = torch.tensor([[0.1, -70000.0, 1e-8, 65519.0, 3.0e38, -0.0]])
    expected = torch.where(torch.isinf(w.half()), w.bfloat16().float(), w.half().float())
    assert np.array_equal(sixteen_bits(w.numpy()), expected.numpy())


def measured(**matrices):
    settings = QuantizationSensitivity()
    part = pd.DataFrame([row_of(w, name, role=name.split("_")[0]) for name, w in matrices.items()])
    return quantization_sensitivity([part], {name: name for name in matrices}, matrices.__getitem__, settings, 2)


def test_a_planted_outlier_channel_is_found_and_what_it_costs():
    w = normal(64, 256)
    w[:, 77] *= 60
    table = measured(planted=w, clean=normal(64, 256, seed=1)).channels
    one = table[(table["kept"] == 1) & (table["scheme"] == "int8/tensor")].set_index("id")
    assert one.loc["planted", "channels"] == "77"
    assert one.loc["planted", "channel_peak"] > 30
    assert abs(one.loc["clean", "gain_db"] - one.loc["clean", "gain_db_null"]) < 1.5
    # The energy stays, and the error is what it is without the column.
    rest = w.clone()
    rest[:, 77] = 0
    error = error_of(rest, quantized(rest, Scheme.named("int8/tensor")))["squared_error"]
    column = float((w[:, 77] - w[:, 77].half().float()).double().square().sum())
    expected = 10 * np.log10(float((w.double() ** 2).sum()) / (error + column))
    assert one.loc["planted", "sqnr_db_kept"] == pytest.approx(expected, abs=1e-6)
    assert one.loc["planted", "bits"] == pytest.approx(8 + 16 / w.numel() + (16 - 8 - 16 / w.numel()) / 256)


def test_readiness_follows_the_loss_and_not_decibels():
    table = measured(clean=normal(128, 256), outlier=outlier(128, 256), zeros=torch.zeros(8, 64)).errors
    labels = table.set_index(["id", "scheme"])["readiness"]
    assert labels["clean"].eq("ready").all()
    assert labels["outlier", "int8/tensor"] == "sensitive"
    assert labels["outlier", "fp8_e4m3/tensor"] == "ready"
    assert labels["zeros"].eq("").all()
    assert table.set_index("id").loc["zeros", "relative_error"].eq(0).all()
    assert [label(loss, 3, 6) for loss in (-np.inf, 3.0, 5.0, 6.1, np.nan)] == [
        "exact", "ready", "costly", "sensitive", ""
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_every_kind_of_matrix_goes_through_the_whole():
    fp8 = (normal(4, 64) * 10).to(torch.float8_e4m3fn)
    lost = torch.full((2, 16), float("nan"))
    few = {name: MATRICES[name] for name in ("one element", "one row", "one column", "zeros", "all equal", "huge")}
    found = measured(fp8=fp8, nan=lost, subnormal=MATRICES["subnormal"], **few)
    table = found.errors.set_index(["id", "scheme"])
    assert len(table) == 9 * len(SCHEMES)
    assert (table["relative_error"].between(0, 1.5)).all()
    assert table.loc["one element", "relative_error"].between(0, 0.2).all()
    assert table.loc["nan", "readiness"].eq("").all()
    assert np.isfinite(table.loc["huge", "sqnr_db"]).all()
    for pooled in (by_scheme(found.errors), by_layer(found.errors), by_tensor(found.errors)):
        assert len(pooled)


def test_the_worst_row_of_one_scale_for_all_is_one_that_is_lost():
    w = normal(16, 64).to(torch.bfloat16)
    w[3] *= 0.001
    table = measured(w=w).errors.set_index("scheme")
    assert table.loc["int8/tensor", "worst_row_at"] == 3
    assert table.loc["int8/tensor", "worst_row"] == pytest.approx(1)
    assert table.loc["int8/channel", "worst_row"] < 0.05


def test_tables_by_scheme_layer_and_matrix_pool_the_sums():
    errors = measured(a=normal(32, 64), b=outlier(16, 64)).errors
    schemes = by_scheme(errors)
    whole = schemes[schemes["role"] == "all"].set_index("scheme")
    one = errors[errors["scheme"] == "int4/channel"]
    ratio = one["squared_error"].sum() / one["energy"].sum()
    assert whole.loc["int4/channel", "relative_error"] == pytest.approx(ratio**0.5)
    assert whole.loc["int4/channel", "sqnr_db"] == pytest.approx(-10 * np.log10(ratio))
    assert whole.loc["int8/tensor", "worst"] == "b"
    assert (whole[["ready", "costly", "sensitive"]].sum(axis=1) == 2).all()
    assert len(schemes) == 3 * len(SCHEMES)
    layers = by_layer(errors)
    assert set(layers["role"]) == {"a", "b"}
    assert len(layers) == 2 * len(SCHEMES)
    tensors = by_tensor(errors).set_index("id")
    assert tensors.loc["a", "int8"] == "ready"
    assert tensors.loc["b", "worst_scheme"].startswith("int8/tensor")


def test_figures_draw_what_there_is_and_say_so_where_there_is_nothing():
    sensitivity = measured(a=normal(32, 64), b=outlier(16, 64))
    layers, schemes = by_layer(sensitivity.errors), by_scheme(sensitivity.errors)
    assert len(sqnr_by_layer(layers, ["int8/tensor", "int4/channel"]).axes) == 2
    assert schemes_by_bits(schemes).axes
    assert loss_by_channels(sensitivity.channels).axes
    for empty in (
        sqnr_by_layer(layers[:0], []),
        schemes_by_bits(schemes[:0]),
        loss_by_channels(sensitivity.channels[:0]),
    ):
        assert empty.axes[0].texts
    assert spoken("int4/group:128/asymmetric/clipped") == "INT4, group of 128, asymmetric, clipped"


@pytest.mark.parametrize("name", [scheme.name for scheme in ALL])
def test_names_lead_back_to_their_schemes(name):
    assert Scheme.named(name).name == name


def test_bits_count_what_each_format_stores():
    assert bits_per_weight((32, 64), Scheme.named("mxfp4/group:32")) == 4.25
    assert bits_per_weight((32, 64), Scheme.named("nvfp4/group:16")) == 4.5 + 32 / 2048
    assert bits_per_weight((32, 64), Scheme.named("int4/group:32/asymmetric")) == 5


@pytest.mark.parametrize("name", ["int4/group:32/soft", "nf4/group:64/clipped", "int4/row"])
def test_unknown_names_are_refused(name):
    with pytest.raises(AtlasError):
        Scheme.named(name)


def test_blocks_that_run_across_rows_are_refused_here():
    with pytest.raises(AtlasError, match="blocks run across rows"):
        Rows(np.zeros((2, 4), np.float32), Extent(0, 0, {})).rounded(Scheme("int4", "block:4"))
