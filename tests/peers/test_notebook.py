"""The numbers that users of the dense notebook route know: float32 SVDs, and d x d kernels of every head.

Written out here as that route does it, on the bundled model's shapes; the atlas must give the same numbers up to the
rounding of float32, and say where the dense route's eigenvalues are rounding only.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import load_piece, matrices
from weight_atlas.spectra.attention_table import attention_kernels, summary_by_head, summary_by_layer
from weight_atlas.spectra.ranks import effective_ranks, notebook_view
from weight_atlas.spectra.table import singular_value_table
from weight_atlas.spectra.trends import phase_table, statistics_by_role, trend_table


def effective_rank(weight):
    sigma = torch.linalg.svdvals(weight.float())
    shares = sigma / sigma.sum()
    shares = shares[shares > 0]
    return torch.exp(-(shares * shares.log()).sum()).item()


@pytest.fixture(scope="module")
def demo(request):
    folder = request.config.rootpath / "src/weight_atlas/data/demo/model"
    checkpoint = Checkpoint.from_folder(folder)
    table = inventory(checkpoint)
    return checkpoint, matrices(table), lambda row: load_piece(checkpoint, row)


@pytest.fixture(scope="module")
def dense(demo):
    """The notebook's table: layer_idx, weight_type, shape, eff_rank."""
    _, rows, load = demo
    inside = rows[rows["layer"].notna()]
    return pd.DataFrame(
        [
            {
                "layer_idx": int(row.layer),
                "weight_type": row.role,
                "shape": f"{row.rows}x{row.cols}",
                "eff_rank": effective_rank(load(row)),
            }
            for row in inside.itertuples(index=False)
        ]
    )


@pytest.fixture(scope="module")
def ranks(demo):
    _, rows, load = demo
    return effective_ranks(singular_value_table(rows, load))


def test_effective_ranks_and_columns(dense, ranks):
    ours = notebook_view(ranks)
    assert list(ours.columns) == list(dense.columns)
    both = ours.merge(dense, on=["layer_idx", "weight_type", "shape"], validate="one_to_one")
    assert len(both) == len(dense) == len(ours)
    np.testing.assert_allclose(both["eff_rank_x"], both["eff_rank_y"], rtol=1e-4)


def test_statistics_by_type(dense, ranks):
    ours = statistics_by_role(ranks).set_index("Weight Type")
    for weight_type, group in dense.sort_values("layer_idx").groupby("weight_type"):
        values = group["eff_rank"].to_numpy()
        theirs = {
            **{"Min": values.min(), "Max": values.max(), "Mean": values.mean(), "Median": np.median(values)},
            **{"Std": values.std(), "Range": np.ptp(values), "First": values[0], "Last": values[-1]},
            **{"Variance": values.var(), "CV": values.std() / values.mean()},
        }
        for name, value in theirs.items():
            assert ours.loc[weight_type, name] == pytest.approx(value, rel=2e-3), (weight_type, name)
        assert ours.loc[weight_type, "Count"] == len(values)


def test_phases_trends_and_gradients(dense, ranks):
    depth = dense["layer_idx"].max() + 1
    third = depth // 3
    cuts = {"early": (0, third), "middle": (third, 2 * third), "late": (2 * third, depth)}
    ours = phase_table(ranks, 3).set_index(["phase", "role"])
    trends = trend_table(ranks, 3).set_index("role")
    means = {}
    for phase, (start, end) in cuts.items():
        inside = dense[(dense["layer_idx"] >= start) & (dense["layer_idx"] < end)]
        summary = inside.groupby("weight_type")["eff_rank"].agg(["mean", "std", "min", "max", "median"])
        for weight_type, row in summary.iterrows():
            for name, value in row.dropna().items():
                assert ours.loc[(phase, weight_type), name] == pytest.approx(value, rel=2e-3)
            means[weight_type, phase] = row["mean"]
        assert ours.loc[(phase, "all"), "mean"] == pytest.approx(inside["eff_rank"].mean(), rel=1e-4)
        assert ours.loc[(phase, "all"), "std"] == pytest.approx(inside["eff_rank"].std(), rel=1e-3)
    for weight_type, group in dense.sort_values("layer_idx").groupby("weight_type"):
        early, middle, late = (means[weight_type, phase] for phase in cuts)
        if middle < early and middle < late:
            theirs = "U-SHAPE"
        elif early > middle > late:
            theirs = "MONOTONE DOWN"
        elif early < middle < late:
            theirs = "MONOTONE UP"
        else:
            theirs = "OTHER"
        assert trends.loc[weight_type, "pattern"] == theirs or trends.loc[weight_type, "pattern"] == "INVERTED U"
        steps = np.diff(group["eff_rank"])
        assert trends.loc[weight_type, "max_drop"] == pytest.approx(steps.min(), abs=1e-2)
        assert trends.loc[weight_type, "max_jump"] == pytest.approx(steps.max(), abs=1e-2)
        assert trends.loc[weight_type, "max_drop_layers"] == f"{steps.argmin()}-{steps.argmin() + 1}"


def test_heat_map_and_its_summaries(demo):
    _, rows, load = demo
    kernels = attention_kernels(rows, load)
    scores = kernels[kernels["circuit"] == "QK"]
    grid = scores.pivot(index="layer", columns="head", values="erank").to_numpy()
    dense = np.empty_like(grid)
    weights = {(row.role, row.layer): (row, load(row).float()) for row in rows.itertuples(index=False)}
    depth, heads = grid.shape
    for layer in range(depth):
        (query, queries), (key, keys) = weights["W_Q", layer], weights["W_K", layer]
        size = query.head_dim
        for head in range(heads):
            kv = head // (query.n_heads // key.n_heads)
            kernel = queries[head * size : (head + 1) * size].T @ keys[kv * size : (kv + 1) * size]
            dense[layer, head] = effective_rank(kernel)
    np.testing.assert_allclose(grid, dense, rtol=2e-3)
    by_head = summary_by_head(scores)
    means = dense.mean(axis=0)
    np.testing.assert_allclose(by_head["mean"], means, rtol=2e-3)
    np.testing.assert_allclose(by_head["std"], dense.std(axis=0), atol=2e-2)
    low, high = np.percentile(means, [25, 75])
    categories = np.where(means <= low, "LOW-RANK", np.where(means >= high, "HIGH-RANK", "MID"))
    # The notebook calls a quarter of the heads high-rank whatever they are; here they must be so beside random heads.
    random = categories == np.where(means > by_head["null"], "LOW-RANK", "HIGH-RANK")
    assert by_head["category"].tolist() == np.where(random, "MID", categories).tolist()
    np.testing.assert_allclose(summary_by_layer(scores)["mean"], dense.mean(axis=1), rtol=2e-3)


def test_one_head_and_what_the_dense_route_adds_to_it(demo):
    _, rows, load = demo
    kernels = attention_kernels(rows[rows["layer"] == 2], load)
    ours = kernels[(kernels["circuit"] == "QK") & (kernels["head"] == 0)].iloc[0]
    weights = {row.role: load(row).float() for row in rows[rows["layer"] == 2].itertuples(index=False)}
    size = int(ours["head_dim"])
    kernel = (weights["W_Q"][:size].T @ weights["W_K"][:size]).numpy()
    values = np.linalg.eigvals(kernel)
    order = np.argsort(-np.abs(values))
    top = values[order][:size]
    exact = np.hypot(ours["eigenvalues_real"], ours["eigenvalues_imag"])
    np.testing.assert_allclose(exact[:20], np.abs(top)[:20], rtol=1e-3)
    asymmetry = np.linalg.norm(kernel - kernel.T) / np.linalg.norm(kernel)
    assert ours["asymmetry"] == pytest.approx(asymmetry, rel=1e-4)
    # Beyond head_dim all eigenvalues are zero; the dense route shows rounding there, most of it complex.
    noise = values[order][size:]
    assert np.abs(noise).max() < 1e-4 * np.abs(top[0]) and (np.abs(noise) > 0).any()
    energy = np.cumsum(np.abs(values[order]) ** 2) / (np.abs(values) ** 2).sum()
    assert ours["eigen_n99"] == (energy < 0.99).sum() + 1
