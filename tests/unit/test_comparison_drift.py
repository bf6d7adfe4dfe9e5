"""How far the weights of a checkpoint have moved, against float64."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.comparison.drift import BLOCK, against, drift, drift_by_role

PLACES = {"w": ("W_Q", 0), "v": ("W_Q", 1), "b": ("bias", 0), "t": ("W_U", None), "c": ("other", None)}


def inventory(tensors, tied=("t",)):
    """An inventory of tensors by their names; `t` is tied, `c` a constant."""
    rows = []
    for name, tensor in tensors.items():
        role, layer = PLACES[name]
        rows.append({
            "id": name, "tensor": name, "role": role, "stack": "decoder", "layer": layer, "expert": pd.NA,
            "rows": tensor.shape[0], "cols": tensor.shape[1] if tensor.ndim > 1 else pd.NA, "readable": True,
            "tied_to": "w" if name in tied else "", "parameters": 0 if name == "c" else tensor.numel(),
        })  # fmt: skip
    return pd.DataFrame(rows), lambda row: tensors[row.tensor]


def drawn(seed, dtype=torch.float32, **more):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"w": (5, 7), "v": (7, 7), "b": (5,), "t": (5, 7), "c": (3,), **more}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items() if shape}


def truth(now, before):
    """In float64, elements that are no numbers left out."""
    x, y = (tensor.double().numpy().ravel() for tensor in (now, before))
    equal = (x == y).mean()
    x, y = x[finite := np.isfinite(x) & np.isfinite(y)], y[finite]
    norm = np.linalg.norm
    return {
        "norm": norm(y), "distance": norm(x - y), "change": norm(x - y) / norm(y) if norm(y) else math.nan,
        "cosine": x @ y / (norm(x) * norm(y)) if norm(x) * norm(y) else math.nan, "equal": equal,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_drift_is_that_of_float64(dtype):
    tables = [drawn(seed, dtype) for seed in (0, 1, 2)]
    (now, load), previous, first = (inventory(each) for each in tables)
    found = drift(now, load, {"previous": previous, "first": first}).set_index("id")
    assert list(found.index) == ["w", "v", "b"]  # the tied one and the constant have no weights of their own
    for name, row in found.iterrows():
        for other, tensors in (("previous", tables[1]), ("first", tables[2])):
            for what, value in truth(tables[0][name], tensors[name]).items():
                assert row[f"{what}_{other}"] == pytest.approx(value, rel=1e-12), (name, what)
        assert row["norm"] == pytest.approx(tables[0][name].double().norm().item(), rel=1e-12)
    assert found["elements"].tolist() == [35, 49, 5] and (found["note"] == "").all()


def test_drift_of_awkward_tensors():
    n = BLOCK + 3  # more than one block
    long = torch.randn(n, generator=torch.Generator().manual_seed(0))
    other = long.clone()
    other[-1] += 1
    assert against(other, long)["distance"] == pytest.approx(1, rel=1e-6)
    assert against(other, long)["equal"] == (n - 1) / n
    assert against(long, long) == {"norm": pytest.approx(long.double().norm().item()), "distance": 0.0, "change": 0.0,
                                   "cosine": pytest.approx(1), "equal": 1.0}  # fmt: skip
    zero, one = torch.zeros(3), torch.ones(3)
    assert against(one, zero)["change"] == math.inf and math.isnan(against(one, zero)["cosine"])
    assert against(zero, zero)["change"] == 0 and against(zero, one)["change"] == 1
    bad = torch.tensor([math.nan, 2.0, math.inf])
    assert against(bad, one)["distance"] == 1 and against(bad, one)["norm"] == 1
    assert against(torch.zeros(0), torch.zeros(0))["equal"] == 0


def test_drift_says_what_cannot_be_compared():
    (now, load) = inventory(drawn(0, b=(6,)))
    previous, first = inventory(drawn(1, v=None)), inventory({**drawn(2), "c": torch.ones(3)})
    first[0].loc[first[0]["id"] == "c", "parameters"] = 3
    found = drift(now, load, {"previous": previous, "first": first}).set_index("id")
    assert found.loc["v", "note"] == "not in the previous checkpoint"
    assert (
        found.loc["b", "note"]
        == "of another shape in the previous checkpoint; of another shape in the first checkpoint"
    )
    assert found.loc["c", "note"] == "gone since the first checkpoint" and pd.isna(found.loc["c", "norm"])
    assert found.loc["v", "change_first"] > 1 and pd.isna(found.loc["v", "change_previous"])


def test_drift_of_a_role_is_that_of_one_long_vector():
    tables = [drawn(seed) for seed in (0, 1, 2)]
    (now, load), previous, first = (inventory(each) for each in tables)
    by_role = drift_by_role(drift(now, load, {"previous": previous, "first": first})).set_index("role")
    for role, names in (("W_Q", "wv"), ("bias", "b"), ("all", "wvb")):
        whole = [torch.cat([each[name].ravel() for name in names]) for each in tables]
        for other, before in (("previous", whole[1]), ("first", whole[2])):
            for what in ("change", "cosine", "equal"):
                expected = truth(whole[0], before)[what]
                assert by_role.loc[role, f"{what}_{other}"] == pytest.approx(expected, rel=1e-10), (role, what)
    assert by_role.loc["all", "tensors"] == 3
