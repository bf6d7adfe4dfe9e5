"""Composition scores against products of d x d matrices, their null against random rotations, and planted circuits."""

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.circuits import composition as module
from weight_atlas.circuits.composition import compositions
from weight_atlas.circuits.head_sides import Norms, attention_norms, head_sides
from weight_atlas.circuits.orientation_null import shape_of, upper_tail
from weight_atlas.circuits.pair_scores import by_layers
from weight_atlas.errors import NotApplicable
from weight_atlas.figures.head_composition import composition_maps

D = 40
NO_NORMS = Norms({}, {}, frozenset())


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def attention(layer, heads=4, kv_heads=4, size=6, d=D, seed=0):
    weights = {"W_Q": (heads, size, d), "W_K": (kv_heads, size, d), "W_V": (kv_heads, size, d), "W_O": (heads, size, d)}
    made = {
        role: draw(n * k, d, seed=seed + 10 * layer + place) for place, (role, (n, k, d)) in enumerate(weights.items())
    }
    return {**made, "W_O": made["W_O"].T.contiguous()}, {role: shape[:2] for role, shape in weights.items()}


def model(*layers, stack="decoder", component=""):
    """(matrices, load) of attention modules, each (weights, heads), one a layer."""
    rows, held = [], {}
    for layer, (weights, heads) in enumerate(layers):
        for role, weight in weights.items():
            name = f"{stack}.{layer}.{component}{role}"
            n_heads, head_dim = heads.get(role, (pd.NA, pd.NA))
            rows.append(
                {"id": name, "role": role, "stack": stack, "layer": layer, "component": component, "expert": pd.NA,
                 "rows": len(weight), "cols": weight.shape[1], "n_heads": n_heads, "head_dim": head_dim}
            )  # fmt: skip
            held[name] = weight
    return pd.DataFrame(rows), lambda row: held[row.id]


def dense(weights, heads, gain=None, after=None, centred=False):
    """(W_QK, W_OV) of every head, d x d, cut out by hand; centring is a projection on both sides."""
    wide = {role: weight.double().numpy() for role, weight in weights.items()}
    d = wide["W_Q"].shape[1]
    before, behind = (np.eye(d) if each is None else np.diag(each) for each in (gain, after))
    project = np.eye(d) - centred / d
    (n, size), (n_kv, _) = heads["W_Q"], heads["W_K"]
    for head in range(n):
        kv = head * n_kv // n
        query = wide["W_Q"][head * size : (head + 1) * size]
        key, value = (wide[role][kv * size : (kv + 1) * size] for role in ("W_K", "W_V"))
        out = wide["W_O"][:, head * size : (head + 1) * size]
        yield project @ before @ query.T @ key @ before @ project, project @ behind @ out @ value @ before @ project


def truth(layers, **folded):
    kernels = [list(dense(*layer, **folded)) for layer in layers]
    for reader in range(len(layers)):
        for writer in range(reader):
            for head, (QK, OV) in enumerate(kernels[reader]):
                for other, (_, wrote) in enumerate(kernels[writer]):
                    for kind, reads in (("Q", QK.T), ("K", QK), ("V", OV)):
                        size = np.linalg.norm(reads) * np.linalg.norm(wrote)
                        yield (kind, reader, head, writer, other), np.linalg.norm(reads @ wrote) / size


def as_dict(pairs):
    keys = pairs[["kind", "layer", "head", "from_layer", "from_head"]].itertuples(index=False, name=None)
    return dict(zip(keys, pairs["score"], strict=True))


def assert_true(pairs, layers, **folded):
    wanted = dict(truth(layers, **folded))
    found = as_dict(pairs)
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[key] for key in wanted], list(wanted.values()), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 4, 6), (6, 2, 5), (4, 1, 8), (1, 1, 20), (2, 2, 64)])
def test_scores_are_those_of_the_dense_products(heads, kv_heads, size):
    layers = [attention(layer, heads, kv_heads, size) for layer in range(3)]
    assert_true(compositions(*model(*layers), NO_NORMS), layers)


@pytest.mark.parametrize("centred", [False, True])
def test_norms_are_folded(centred):
    layers = [attention(layer) for layer in range(2)]
    gain, after = (np.random.default_rng(seed).uniform(0.2, 3, D) for seed in (1, 2))
    places = [("decoder", 0), ("decoder", 1)]
    norms = Norms(dict.fromkeys(places, gain), dict.fromkeys(places, after), frozenset(["decoder"] if centred else []))
    pairs = compositions(*model(*layers), norms)
    assert_true(pairs, layers, gain=gain, after=after, centred=centred)
    assert pairs["null"].unique() == [(D - centred) ** -0.5]


def test_which_norms_are_folded():
    norm = {"role": "norm", "stack": "decoder", "component": "pre_attention", "norm": "LayerNorm"}
    other = {**norm, "component": "post_attention", "norm": "RMSNorm"}
    rows = pd.DataFrame([{**norm, "layer": 0}, {**other, "layer": 0}, {**norm, "layer": 1}, {**norm, "layer": 1}])
    found = attention_norms(rows, lambda row: torch.full((3,), 2.0), "LayerNorm")
    assert list(found.before) == [("decoder", 0)] == list(found.after) and found.centred == {"decoder"}
    bare = rows[:0]
    assert attention_norms(bare, None, "LayerNorm").centred == frozenset()
    matrices = pd.DataFrame([{"role": "W_Q", "stack": "decoder", "component": "", "norm": "", "layer": 0}])
    assert attention_norms(matrices, None, "LayerNorm without parameters").centred == {"decoder"}
    assert "1 norms before and 1 after" in found.words() and "means taken out (decoder)" in found.words()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e4])
def test_stored_types_and_scales(dtype, scale):
    layers = [({role: (w * scale * 0.1).to(dtype) for role, w in weights.items()}, heads)
              for weights, heads in (attention(layer) for layer in range(2))]  # fmt: skip
    if scale == 1e-7 and dtype == torch.float16:
        layers = [({role: w.clamp_min(6e-8) for role, w in weights.items()}, heads) for weights, heads in layers]
    assert_true(compositions(*model(*layers), NO_NORMS), layers)


def test_groups_of_writing_layers_and_threads_change_nothing(monkeypatch):
    layers = [attention(layer) for layer in range(5)]
    whole = compositions(*model(*layers), NO_NORMS)
    reads = []
    matrices, load = model(*layers)
    monkeypatch.setattr(module, "MEMORY", 2 * 4 * D * 24)
    cut = compositions(matrices, lambda row: reads.append(row.id) or load(row), NO_NORMS, threads=3)
    pd.testing.assert_frame_equal(whole, cut)
    # Groups {0, 1}, {2, 3} and {4}: the last layer is read three times, the first once.
    assert reads.count("decoder.0.W_O") == 1 and reads.count("decoder.4.W_O") == 3


def test_heads_without_numbers_are_left_out():
    layers = [attention(layer) for layer in range(2)]
    layers[0][0]["W_O"][:, :6] = 0
    layers[1][0]["W_Q"][7, 3] = float("nan")
    found = as_dict(compositions(*model(*layers), NO_NORMS))
    assert not any(key[4] == 0 for key in found)
    assert {key[2] for key in found if key[0] in "QK"} == {0, 2, 3} and {key[2] for key in found if key[0] == "V"} == {
        0,
        1,
        2,
        3,
    }


def test_stacks_and_cross_attention():
    own, cross, encoder = (
        (attention(layer) for layer in range(3)),
        [attention(3), attention(4)],
        [attention(5), attention(6)],
    )
    parts = [model(*own), model(*cross, component="cross_attention"), model(*encoder, stack="encoder")]
    loads = {row: load for rows, load in parts for row in rows["id"]}
    rows = pd.concat([rows for rows, _ in parts], ignore_index=True)
    pairs = compositions(rows, lambda row: loads[row.id](row), NO_NORMS)
    assert set(pairs[pairs["component"] == "cross_attention"]["kind"]) == {"Q"}
    assert set(pairs[pairs["stack"] == "encoder"]["layer"]) == {1} and set(pairs["stack"]) == {"encoder", "decoder"}
    assert (pairs["from_component"] == "cross_attention").any()
    assert (pairs["layer"] > pairs["from_layer"]).all()
    sides = next(iter(head_sides(*parts[0], NO_NORMS)))
    assert sides.write.shape == (4, 6, D)


def test_nothing_to_compose():
    with pytest.raises(NotApplicable, match="earlier layer"):
        compositions(*model(attention(0)), NO_NORMS)
    empty, load = model(attention(0))
    with pytest.raises(NotApplicable):
        compositions(empty[:0], load, NO_NORMS)


def unit(sides):
    return sides / np.linalg.norm(sides, axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("decay", [0.0, 1.0, 3.0])
def test_the_null_is_that_of_random_rotations(decay):
    """Mean, variance and upper tail of the squared score of 40,000 pairs in random orientations."""
    random, k, d, n = np.random.default_rng(3), 6, 30, 200
    frames = np.linalg.qr(random.standard_normal((2, n, d, k)))[0].transpose(0, 1, 3, 2)
    reads, writes = map(unit, frames * np.arange(1, k + 1.0)[:, None] ** -decay)
    squares = (np.einsum("aid,bjd->abij", reads, writes) ** 2).sum(axis=(2, 3))
    assert squares.mean() * d == pytest.approx(1, rel=0.02)
    (a, b) = (shape_of(side).second.mean() - 1 / d for side in (reads, writes))
    assert squares.var() == pytest.approx(2 * a * b / ((d - 1) * (d + 2)), rel=0.15)
    p = upper_tail(squares, shape_of(reads), shape_of(writes), d)
    assert (p < 0.1).mean() == pytest.approx(0.1, rel=0.15)
    assert (p < 0.01).mean() == pytest.approx(0.01, rel=0.35) and (p < 1e-3).mean() < 2e-3


def test_full_and_even_sides_have_one_score_in_every_orientation():
    sides = unit(np.linalg.qr(np.random.default_rng(0).standard_normal((2, 8, 8)))[0])
    square = np.array([[np.linalg.norm(sides[0] @ sides[1].T) ** 2]])
    shapes = shape_of(sides[:1]), shape_of(sides[1:])
    assert square[0, 0] == pytest.approx(1 / 8) and upper_tail(square, *shapes, 8)[0, 0] == 1


@pytest.mark.parametrize("seed", range(3))
def test_random_models_have_no_label(seed):
    pairs = compositions(*model(*[attention(layer, seed=1000 * seed) for layer in range(6)]), NO_NORMS)
    assert (pairs["label"] == "").all() and pairs["excess"].abs().max() < 0.5
    assert by_layers(pairs)["composing"].sum() == 0
    assert np.sqrt((pairs["score"] ** 2).mean()) == pytest.approx(pairs["null"].mean(), rel=0.02)


def planted():
    """Head 2 of layer 2 takes its keys from what head 1 of layer 0 writes, beside noise."""
    layers = [attention(layer, d=64, size=8) for layer in range(3)]
    layers[2][0]["W_K"][16:24] = layers[0][0]["W_O"][:, 8:16].T * 1.2 + 0.3 * draw(8, 64, seed=99)
    return layers


def test_a_planted_composition_is_first_and_alone():
    pairs = compositions(*model(*planted()), NO_NORMS)
    first = pairs.iloc[0]
    assert (first.kind, first.layer, first["head"], first.from_layer, first.from_head) == ("K", 2, 2, 0, 1)
    assert list(pairs[pairs["label"] != ""].index) == [0] and first.excess > 3 * pairs["excess"][1]
    summary = by_layers(pairs)
    (row,) = summary[summary["composing"] > 0].itertuples()
    assert (row.kind, row.layer, row.from_layer, row.head, row.from_head) == ("K", 2, 0, 2, 1)
    assert row.max_score == first.score and row.pairs == 16 and summary["pairs"].sum() == len(pairs)


def test_the_figure_names_the_strongest_pair():
    pairs = compositions(*model(*planted()), NO_NORMS)
    figure = composition_maps(by_layers(pairs), pairs)
    texts = [text.get_text() for axis in figure.axes for text in axis.get_yticklabels()]
    assert "K  0.1 → 2.2 *" in texts
