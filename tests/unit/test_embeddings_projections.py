"""Principal components are those of numpy, whole, fused and head by head; noise has the null's."""

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.embeddings.components import components_for, gaussian_ratios, principal_components
from weight_atlas.embeddings.projections import component_table, curve_table, projections, said, score_table, views
from weight_atlas.errors import NotApplicable
from weight_atlas.settings.embeddings import ProjectionPca

RANDOM = np.random.default_rng(0)


def by_hand(samples, standardise):
    """Variances and scores by a full SVD of the centred, standardised samples, as scikit-learn's PCA does."""
    centred = samples - samples.mean(axis=0)
    if standardise:
        deviation = samples.std(axis=0)
        centred = centred / np.where(deviation > 0, deviation, 1)
    left, sigma, _ = np.linalg.svd(centred, full_matrices=False)
    return sigma**2 / len(samples), left * sigma


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (12, 12), (2, 5), (5, 1)])
def test_components_are_those_of_a_singular_value_decomposition(shape, standardise):
    samples = RANDOM.standard_normal(shape) * RANDOM.uniform(0.1, 3, shape[1]) + 5
    found = principal_components(samples, standardise=standardise)
    variances, scores = by_hand(samples, standardise)
    kept = min(shape[0] - 1, shape[1])
    assert found.variances == pytest.approx(variances[:kept], rel=1e-9, abs=1e-12)
    for place in range(min(2, kept)):
        assert np.abs(found.scores[:, place]) == pytest.approx(np.abs(scores[:, place]), rel=1e-6, abs=1e-8)
        assert found.scores[np.abs(found.scores[:, place]).argmax(), place] > 0
    assert found.spread == pytest.approx(np.sqrt((found.scores**2).sum() / shape[0]), rel=1e-9)


def test_constant_features_stay_out_and_sizes_do_not_matter():
    samples = RANDOM.standard_normal((20, 6))
    samples[:, 2] = 0.1 + 0.2  # whose mean is not exactly itself
    ratios = principal_components(samples, standardise=True).ratios
    without = principal_components(np.delete(samples, 2, 1), standardise=True).ratios
    assert ratios == pytest.approx(np.append(without, 0))
    for size in (1e-100, 1e100):
        assert principal_components(samples * size).ratios == pytest.approx(principal_components(samples).ratios)
    assert len(principal_components(np.full((4, 3), 2.5)).ratios) == 0


def test_gaussian_samples_have_the_shares_of_the_null():
    for shape in ((200, 60), (60, 200)):
        ratios = principal_components(RANDOM.standard_normal(shape)).ratios
        null = gaussian_ratios(*shape)
        assert null.sum() == pytest.approx(1) and len(null) == len(ratios)
        assert np.abs(np.cumsum(ratios) - np.cumsum(null)).max() < 0.01
        assert abs(components_for(ratios, 0.9) - components_for(null, 0.9)) <= 1
    assert components_for(np.array([0.5, 0.25, 0.25]), 0.5) == 1
    assert components_for(np.array([0.5, 0.25, 0.25]), 0.75) == 2 and components_for(np.full(10, 0.1), 0.9) == 9


def row(name, role, shape, **more):
    heads = {"n_heads": 4 if role in ("W_Q", "W_K", "W_V", "W_O") else pd.NA}
    return {"id": name, "tensor": name, "role": role, "stack": "decoder", "layer": 0, "expert": pd.NA, "rows": shape[0],
            "cols": shape[1], **heads, **more}  # fmt: skip


@pytest.fixture
def gpt2():
    """c_attn of a GPT-2, its pieces in logical orientation, and an output projection; stored: as in the file."""
    stored = torch.randn(16, 48)
    pieces = dict(zip(("W_Q", "W_K", "W_V"), stored.T.split(16), strict=True))
    rows = [row(f"c_attn {role}", role, (16, 16), tensor="c_attn") for role in pieces]
    tensors = {f"c_attn {role}": piece for role, piece in pieces.items()} | {"c_proj": torch.randn(16, 16)}
    table = pd.DataFrame([*rows, row("c_proj", "W_O", (16, 16))])
    return table, (lambda one: tensors[one.id]), stored.double().numpy(), tensors


def test_a_fused_tensor_is_looked_at_as_it_is_stored_and_in_its_pieces(gpt2):
    """The published analysis of GPT-2: samples are the rows of c_attn (in, out), columns standardised."""
    table, load, stored, _ = gpt2
    settings = ProjectionPca(samples="inputs", standardise=True, by_head=False)
    found = projections(table, load, settings.roles)
    measured = component_table(found, settings).set_index("id")
    assert measured.role.to_dict() == {"c_attn": "W_QKV", "c_attn W_Q": "W_Q", "c_attn W_K": "W_K", "c_attn W_V": "W_V",
                                       "c_proj": "W_O"}  # fmt: skip
    variances, scores = by_hand(stored, True)
    assert measured.loc["c_attn", ["samples", "features"]].tolist() == [16, 48]
    assert measured["first"]["c_attn"] == pytest.approx(variances[0] / variances.sum())
    (view,) = views(found, ["c_attn"], settings)
    assert np.abs(view.components.scores) == pytest.approx(np.abs(scores[:, :2]), rel=1e-6)
    assert curve_table([view])["cumulative"].iloc[-1] == pytest.approx(1)
    assert score_table([view])["sample"].tolist() == list(range(16)) and score_table([view])["head"].isna().all()
    assert said(settings) == "samples: inputs; features centred, divided by standard deviations"


def test_heads_are_their_rows_or_columns(gpt2):
    table, load, _, tensors = gpt2
    settings = ProjectionPca()
    found = projections(table, load, settings.roles)
    measured = component_table(found, settings)
    for name, part in (("c_attn W_K", tensors["c_attn W_K"][4:8]), ("c_proj", tensors["c_proj"][:, 4:8])):
        (one,) = measured[(measured.id == name) & (measured["head"] == 1)].itertuples()
        variances, _ = by_hand(part.double().numpy(), False)
        assert one.first == pytest.approx(variances[0] / variances.sum())
        assert (one.samples, one.features) == tuple(part.shape)
    keys, output = views(found, ["c_attn W_K", "c_proj"], settings)
    assert keys.head.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 and set(output.head) == {-1}
    turned = ProjectionPca(samples="inputs")
    keys, output = views(found, ["c_attn W_K", "c_proj"], turned)
    assert set(keys.head) == {-1} and output.head.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


def test_what_has_no_components_says_why():
    cases = {"nan": torch.full((4, 3), float("nan")), "same": torch.ones(4, 3), "ok": torch.randn(4, 3)}
    table = pd.DataFrame([row(name, "W_up", (4, 3)) for name in cases])
    found = projections(table, lambda one: cases[one.id], ["W_up"])
    measured = component_table(found, ProjectionPca()).set_index("id")
    assert measured.status.to_dict() == {"nan": "not finite", "same": "constant", "ok": "ok"}
    assert [view.place["id"] for view in views(found, list(cases), ProjectionPca())] == ["ok"]
    with pytest.raises(NotApplicable, match="no projections of these roles: W_Q"):
        projections(table, lambda one: cases[one.id], ["W_Q"])
    assert len(projections(table, lambda one: cases[one.id], None)) == 3
    assert len(curve_table([])) == len(score_table([])) == 0
    heads = pd.DataFrame([row("single", "W_Q", (4, 3))])
    by_head = component_table(projections(heads, lambda one: torch.randn(4, 3), None), ProjectionPca())
    assert by_head.status.tolist() == ["ok", *["one sample"] * 4]
