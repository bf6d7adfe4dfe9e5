"""What findings see of a table: each row beside its neighbours, and the units of a matrix beside each other."""

import numpy as np
import pandas as pd
import pytest

from weight_atlas.findings.channels import units
from weight_atlas.findings.rules import rules
from weight_atlas.findings.views import copies, neighbours, types, untrained


def statistics(**columns):
    filled = {"role": "W_up", "stack": "decoder", "layer": 0, "rows": 8, "cols": 8, "dtype": "F32", "n": 64}
    return pd.DataFrame({**filled, **columns})


def test_neighbours_are_those_of_the_role_two_layers_around():
    table = neighbours(statistics(layer=range(6), rms=[1.0, 1, 1, 20, 1, 1]))
    assert table.jump.round(6).tolist() == [1, 1, 1, 20, 1, 1]
    assert table.neighbour_rms[3] == 1 and table.usual_jump[0] == 1
    assert neighbours(statistics(layer=[0, 1, 10, 11], rms=[20.0, 1, 1, 1])).jump[0] == pytest.approx(20), "not itself"
    assert neighbours(statistics(layer=range(3), rms=[1.0, 1, 20])).jump.isna().all(), "three tell nothing"
    assert neighbours(statistics(layer=range(6), rms=0.0)).jump.isna().all()
    vectors = statistics(layer=range(6), rms=[1.0, 1, 1, 20, 1, 1], cols=None)
    assert neighbours(vectors).jump.isna().all()


def test_a_size_that_grows_with_depth_is_no_jump():
    table = neighbours(statistics(layer=range(12), rms=[1.6**layer for layer in range(12)]))
    rule = rules()["scale_jump"]
    assert table.jump.max() > 1.5 and table.eval(rule.when, engine="python").sum() == 0


def test_copies_agree_in_every_statistic():
    same = dict.fromkeys(("mean", "skew", "kurtosis", "l1", "l2", "min", "max", "absmax_row", "absmax_col",
                          "p1", "p5", "p25", "p50", "p75", "p95", "p99"), 0.5)  # fmt: skip
    table = statistics(id=list("abcde"), std=[1.0, 1, 2, 1, 0], **same)
    table.loc[3, "cols"] = None
    assert copies(table).copy_of.tolist() == ["", "a", "", "", ""]
    assert copies(table.assign(n=[63] * 5)).copy_of.tolist() == [""] * 5


def test_a_type_is_mixed_within_a_role_of_plain_numbers():
    table = types(statistics(id=list("abc"), dtype=["BF16", "F32", "BF16"]))
    assert table.usual_dtype.tolist() == ["BF16"] * 3
    assert types(statistics(id=list("ab"), dtype=["Q4_K", "Q6_K"])).usual_dtype.tolist() == ["", ""]


def test_single_matrices_of_noise_stand_out_among_trained_ones_only():
    tails = pd.DataFrame(
        {"eigenvalues": [64, 64, 64, 8], "reading": ["random-like", "well trained", "", "random-like"]}
    )
    table = untrained(tails)
    assert table.noise_like.isna().tolist() == [False, False, True, True] and not table.most_trained.any()
    assert untrained(pd.concat([tails, tails[1:2]])).most_trained.all()


def profile(matrix, role="W_up", heads=None):
    """What is seen of a matrix."""
    return next(units(pd.DataFrame([row_of(matrix, role, heads)])).itertuples())


def row_of(matrix, role="W_up", heads=None):
    """A profile as weight_profile has it."""
    row = {"id": "w", "role": role, "rows": matrix.shape[0], "cols": matrix.shape[1], "n_heads": heads}
    for axis, side in ((1, "row"), (0, "col")):
        row |= {f"{side}_squares": (matrix**2).sum(axis), f"{side}_absmax": np.abs(matrix).max(axis, initial=0.0)}
        row[f"{side}_not_finite"] = np.zeros(matrix.shape[1 - axis])
    return row


def test_dead_units_are_counted_on_their_side():
    matrix = np.random.default_rng(0).standard_normal((16, 12))
    matrix[4:8], matrix[:, 3], matrix[9] = 0, 0, 0
    found = profile(matrix, heads=4)
    assert (found.dead_rows, found.dead_cols, found.dead_heads) == (5, 1, 1)
    assert found.dead == "head 1; rows 4, 5, 6 and 2 more; column 3"
    assert profile(matrix, "W_O", 4).dead_heads == 0 and profile(matrix.T, "W_O", 4).dead_heads == 1
    embedding = profile(matrix, "W_E")
    assert (embedding.dead_rows, embedding.dead_cols) == (0, 1), "a zero row is a token"
    assert profile(np.zeros((0, 8))).dead_rows == 0 and profile(matrix, heads=5).dead_heads == 0


def test_a_channel_is_not_a_single_weight_and_noise_has_none():
    random = np.random.default_rng(0)
    matrix = random.standard_normal((64, 48))
    quiet = profile(matrix)
    assert quiet.reach < 1.3 * quiet.reach_null
    loud = matrix.copy()
    loud[:, 7] *= 30
    assert profile(loud).channel == "column 7" and 20 < profile(loud).reach < 40
    single = matrix.copy()
    single[3, 7] = 500
    assert profile(single).reach < 2
    assert profile(loud.T).channel == "row 7" and not profile(loud.T, "W_E").channel.startswith("row")
    drawn = [row_of(np.random.default_rng(seed).standard_normal((8, 200))) for seed in range(300)]
    seen = units(pd.DataFrame(drawn))
    assert (seen.reach / seen.reach_null).max() < 2
    assert profile(np.ones((3, 3))).channel == ""
