"""Heads are compared by what they compute, clusters are found, and noise has none."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from weight_atlas.embeddings.clusters import agglomerative_coefficient, clusters_of, tree_of
from weight_atlas.embeddings.depth import depth_trends
from weight_atlas.embeddings.heads import (
    chosen_layers,
    compared_layers,
    head_table,
    layer_table,
    pair_table,
    weights_of,
)
from weight_atlas.embeddings.similarity import Likeness, chance_of
from weight_atlas.errors import NotApplicable
from weight_atlas.settings.embeddings import HeadSimilarity

D, K = 48, 8


def model(layers=1, heads=6, groups=6, seed=0, d=D, dtype=torch.float32):
    """An inventory of attention layers and their tensors by id, Gaussian."""
    torch.manual_seed(seed)
    rows, tensors = [], {}
    for layer in range(layers):
        for role, count in (("W_Q", heads), ("W_K", groups), ("W_V", groups), ("W_O", heads)):
            shape = (d, count * K) if role == "W_O" else (count * K, d)
            name = f"{layer}.{role}"
            tensors[name] = torch.randn(shape).to(dtype)
            place = {"component": "", "stack": "decoder", "layer": layer, "expert": pd.NA}
            size = {"rows": shape[0], "cols": shape[1], "n_heads": count, "head_dim": K}
            rows.append({"id": name, "tensor": name, "role": role, **place, **size})
    return pd.DataFrame(rows), tensors


def compare(table, tensors):
    return compared_layers(table, lambda row: tensors[row.id])


def by_hand(tensors, layer, circuit, head, kv):
    """The d x d kernel itself."""
    weights = {role: tensors[f"{layer}.{role}"].double().numpy() for role in ("W_Q", "W_K", "W_V", "W_O")}
    own, shared = slice(head * K, (head + 1) * K), slice(kv * K, (kv + 1) * K)
    if circuit == "QK":
        return weights["W_Q"][own].T @ weights["W_K"][shared]
    return weights["W_O"][:, own] @ weights["W_V"][shared]


@pytest.mark.parametrize(
    ("heads", "groups", "dtype"), [(6, 6, torch.float32), (6, 2, torch.bfloat16), (4, 1, torch.float16)]
)
def test_cosines_are_those_of_the_whole_kernels(heads, groups, dtype):
    table, tensors = model(heads=heads, groups=groups, dtype=dtype)
    for layer in compare(table, tensors):
        found = layer.found
        for i in range(heads):
            for j in range(heads):
                a, b = (by_hand(tensors, 0, layer.place["circuit"], n, n * groups // heads) for n in (i, j))
                cosine = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
                assert found.cosines[i, j] == pytest.approx(cosine, abs=1e-12)
                norms = a / np.linalg.norm(a), b / np.linalg.norm(b)
                assert found.distances[i, j] == pytest.approx(np.linalg.norm(norms[0] - norms[1]), abs=1e-7)


def test_a_change_of_basis_inside_heads_changes_nothing():
    table, tensors = model()
    before = compare(table, tensors)[0].found.cosines
    mixing = torch.linalg.qr(torch.randn(K, K))[0] * 3
    tensors["0.W_Q"] = torch.cat([mixing @ part for part in tensors["0.W_Q"].split(K)])
    tensors["0.W_K"] = torch.cat([torch.linalg.inv(mixing).T @ part for part in tensors["0.W_K"].split(K)])
    assert np.allclose(compare(table, tensors)[0].found.cosines, before, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_chance_is_the_scatter_of_gaussian_heads(shared):
    cosines = []
    for seed in range(40):
        table, tensors = model(heads=6, groups=1 if shared else 6, seed=seed)
        found = compare(table, tensors)[0].found
        cosines += found.cosines[np.triu_indices(6, 1)].tolist()
        assert (found.chance[0, 1], found.chance.shape) == (chance_of(K, D, D, shared=shared), (6, 6))
    assert np.std(cosines) == pytest.approx(chance_of(K, D, D, shared=shared), rel=0.1)


def test_planted_clusters_are_found_and_other_heads_are_isolated():
    table, tensors = model(layers=2)
    for role in ("W_Q", "W_K"):
        parts = list(tensors[f"1.{role}"].split(K))
        parts[2], parts[5] = parts[0] + 0.1 * parts[2], parts[0] + 0.1 * parts[5]
        parts[4] = parts[3] + 0.1 * parts[4]
        tensors[f"1.{role}"] = torch.cat(parts)
    layers = compare(table, tensors)
    heads = head_table(layers, 0.2)
    own = heads[(heads.layer == 1) & (heads.circuit == "QK")].set_index("head")
    assert own.cluster.fillna(-1).tolist() == [0, -1, 0, 1, 1, 0] and own.cluster_size.fillna(0).tolist() == [
        3,
        0,
        3,
        2,
        2,
        3,
    ]
    assert own.label.tolist() == ["clustered", "isolated", *["clustered"] * 4]
    assert own.nearest[3] == 4 and own.nearest_cosine[3] > 0.9 > own.nearest_cosine_null[3]
    assert set(heads[heads.layer == 0].label) == {"isolated"}
    table = layer_table(layers, heads).set_index(["layer", "circuit"])
    assert table.loc[(1, "QK"), ["clusters", "clustered", "isolated"]].tolist() == [2, 5, 1]
    assert table.clusteredness[1, "QK"] > 0.5 > table.clusteredness_null_high[1, "QK"] > table.clusteredness[0, "QK"]
    assert table.mean_distance[0, "OV"] == pytest.approx(2**0.5, rel=0.02)
    pairs = pair_table(layers)
    assert len(pairs) == 4 * 15 and pairs.distance.max() <= 2


def test_gaussian_heads_are_rarely_beyond_their_null():
    beyond = nearest = 0
    for seed in range(60):
        layers = compare(*model(heads=6, groups=2, seed=seed))
        heads = head_table(layers, 0.2)
        beyond += (layer_table(layers, heads).eval("clusteredness > clusteredness_null_high")).sum()
        nearest += (heads.nearest_cosine > heads.nearest_cosine_null).sum()
    assert beyond <= 6 and nearest <= 8, "of 120 layers and 720 heads, one in a hundred layers"


def test_the_agglomerative_coefficient_by_hand():
    distances = np.array([[0, 1, 4], [1, 0, 4], [4, 4, 0.0]])
    joined = linkage(squareform(distances), "average")
    assert agglomerative_coefficient(joined) == pytest.approx(np.mean([1 - 1 / 4, 1 - 1 / 4, 0]))
    assert agglomerative_coefficient(linkage(np.zeros(3), "average")) == 0


def test_clusters_are_numbered_by_their_first_head():
    cosines = np.eye(5)
    cosines[1, 4] = cosines[4, 1] = cosines[0, 2] = cosines[2, 0] = 0.9
    tree = tree_of(Likeness(cosines, np.arange(5), np.arange(5), K, D, D))
    for least in (0.5, 0.85, 0.89):
        assert clusters_of(tree, least).tolist() == [0, 1, 0, -1, 1]
    assert clusters_of(tree, 0.91).tolist() == [-1] * 5
    assert clusters_of(tree, 0.95).tolist() == [-1] * 5
    assert tree.cophenetic == pytest.approx(1)


@pytest.mark.parametrize("fault", [0.0, float("nan"), float("inf")])
def test_heads_without_a_kernel_are_left_out(fault):
    table, tensors = model()
    tensors["0.W_Q"][:K] = fault
    layers = compare(table, tensors)
    assert layers[0].found.head.tolist() == [1, 2, 3, 4, 5] and layers[1].found.head.tolist() == list(range(6))
    tensors["0.W_Q"][: 5 * K] = fault
    layers = compare(table, tensors)
    assert layers[0].status.startswith("fewer than two heads with") and len(head_table(layers, 0.2)) == 6
    assert layer_table(layers, head_table(layers, 0.2)).heads.fillna(-1).tolist() == [-1, 6]


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_sizes_do_not_matter(size):
    table, tensors = model(dtype=torch.float64)
    before = compare(table, tensors)[0].found.cosines
    scaled = {name: tensor * size for name, tensor in tensors.items()}
    assert np.allclose(compare(table, scaled)[0].found.cosines, before, atol=1e-12)


def test_a_model_without_heads_has_nothing_to_compare():
    table, tensors = model()
    with pytest.raises(NotApplicable, match="no attention heads to compare"):
        compare(table[:0], tensors)
    with pytest.raises(NotApplicable, match=r"no W_K, no W_V and W_O"):
        compare(table[table.role == "W_Q"], tensors)
    with pytest.raises(NotApplicable, match="fewer than two heads"):
        compare(*model(heads=1, groups=1))


def test_layers_are_chosen_and_weights_are_cut_into_heads():
    table, tensors = model(layers=4)
    layers = compare(table, tensors)
    chosen = chosen_layers(layers, ["last", "first", "1"])
    assert [(each.place["layer"], each.place["circuit"]) for each in chosen] == [
        (3, "QK"), (3, "OV"), (0, "QK"), (0, "OV"), (1, "QK"), (1, "OV"),
    ]  # fmt: skip
    parts = weights_of(table, lambda row: tensors[row.id], HeadSimilarity(layers=["first", "-1"]))
    assert [(title, heads) for title, _, heads in parts] == [("W_Q of layer 0", 6), ("W_Q of layer 3", 6)]
    assert (parts[0][1] == tensors["0.W_Q"].double().numpy()).all()


def test_depth_trends_are_those_of_scipy_on_the_means_of_layers():
    table = pd.DataFrame({"role": "W_Q", "layer": [0, 1, 2, 3, 3], "x": [1.0, 2, 4, 7, 9]})
    (row,) = depth_trends(table, ["role"], ["x"]).itertuples()
    assert (row.layers, row.tau) == (4, 1.0) and row.slope == pytest.approx(2.1666, abs=1e-3)
    assert depth_trends(table[:3], ["role"], ["x"]).tau.isna().all()
