"""Circuits of heads through the vocabulary: against V x V matrices, and in a planted model with an induction head."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import special_ortho_group
from test_circuits_composition import NO_NORMS, attention, draw, model

from weight_atlas.circuits.composition import compositions
from weight_atlas.circuits.head_cards import head_cards
from weight_atlas.circuits.head_circuits import attention_backwards, head_circuits, previous_null, score
from weight_atlas.circuits.head_sides import Norms
from weight_atlas.circuits.token_tables import TokenTables, covariance
from weight_atlas.errors import NotApplicable
from weight_atlas.figures.head_circuits import circuit_maps

V, N = 24, 20


def tables(E, U, positions=None):
    E, U = (torch.as_tensor(each) for each in (E, U))
    return TokenTables(covariance(E, U), covariance(E, E), positions)


def test_the_covariance_is_that_of_the_rows_without_their_means():
    left, right = draw(50, 7, seed=1), draw(50, 5, seed=2)
    wide = [each.double().numpy() - each.double().numpy().mean(axis=0) for each in (left, right)]
    np.testing.assert_allclose(
        covariance(left.bfloat16().float(), right), covariance(left.bfloat16(), right), atol=1e-9
    )
    np.testing.assert_allclose(covariance(left, right), wide[0].T @ wide[1], atol=1e-9)
    assert (covariance(left[:0], right[:0]) == 0).all()


@pytest.mark.parametrize("centred", [False, True])
def test_scores_are_those_of_the_matrices_over_the_vocabulary(centred):
    """Eigenvalues of V x V matrices, centred over tokens; with the norm's gain and mean folded in by hand."""
    d, size = 30, 5
    layers = [attention(0, 4, 2, size, d), attention(1, 4, 2, size, d)]
    gain = np.random.default_rng(4).uniform(0.3, 2, d)
    E, U = draw(V, d, seed=3), draw(V, d, seed=4)
    project, middle = np.eye(d) - centred / d, np.eye(V) - 1 / V
    before = np.diag(gain)
    norms = Norms({("decoder", layer): gain for layer in (0, 1)}, {}, frozenset(["decoder"] if centred else []))
    pair = {"stack": "decoder", "kind": "K", "layer": 1, "component": "", "head": 2, "from_layer": 0}
    pairs = pd.DataFrame([{**pair, "from_component": "", "from_head": 1, "label": "composes"}])
    found = head_circuits(*model(*layers), norms, tables(E, U), pairs).set_index(["layer", "head"])
    wide = [{role: weight.double().numpy() for role, weight in weights.items()} for weights, _ in layers]
    E, U = (middle @ each.double().numpy() for each in (E, U))

    def kernels(layer, head):
        own = wide[layer]
        rows, kv = slice(head * size, (head + 1) * size), slice(head // 2 * size, (head // 2 + 1) * size)
        QK = project @ before @ own["W_Q"][rows].T @ own["W_K"][kv] @ before @ project
        return QK, project @ own["W_O"][:, rows] @ own["W_V"][kv] @ before @ project

    def positivity(matrix):
        values = np.linalg.eigvals(matrix)
        return values.real.sum() / np.abs(values).sum()

    for layer, head in found.index:
        QK, OV = kernels(layer, head)
        row = found.loc[(layer, head)]
        assert row.copying == pytest.approx(positivity(U @ OV @ E.T), abs=1e-6)
        assert row.matching == pytest.approx(positivity(E @ QK @ E.T), abs=1e-6)
    earlier = kernels(0, 1)[1]
    assert found.loc[(1, 2)].induction == pytest.approx(positivity(E @ kernels(1, 2)[0] @ earlier @ E.T), abs=1e-6)
    assert found["induction"].notna().sum() == 1 and list(found.loc[(1, 2), ["from_layer", "from_head"]]) == [0, 1]


def test_z_is_standard_over_random_rotations():
    random, d = np.random.default_rng(0), 24
    left, right = random.standard_normal((2, 4, d)) * [[[1], [2], [4], [8]]]
    turned = [left @ special_ortho_group.rvs(d, random_state=random) for _ in range(1500)]
    z = np.array([score(each, right, d).z for each in turned])
    assert z.mean() == pytest.approx(0, abs=0.1) and z.std() == pytest.approx(1, abs=0.08)
    assert (np.abs(z) > 3.3).mean() < 0.004
    assert np.isnan(score(0 * left, right, d).z)


@pytest.mark.parametrize("seed", range(3))
def test_random_heads_have_no_label(seed):
    layers = [attention(layer, seed=500 * seed) for layer in range(6)]
    E = draw(60, 40, seed=seed) + 2.0  # with a mean that all share
    positions = draw(N, 40, seed=seed + 50).double().numpy()
    found = head_circuits(*model(*layers), NO_NORMS, tables(E, E, positions), compositions(*model(*layers), NO_NORMS))
    assert (found["label"] == "").all() and found["copying_q"].notna().all() and found["induction"].isna().all()


def planted(sign=1.0):
    """Two layers of four heads on orthogonal slots for tokens, positions and the token before, beside weak noise.

    Head 0.1 moves the token before into a slot; head 1.2 looks for its own token in that slot and copies.
    """
    d = 2 * V + N + 80
    token, slot, place = np.eye(d)[:V], np.eye(d)[V : 2 * V], np.eye(d)[2 * V : 2 * V + N]
    layers = [attention(layer, 4, 4, V, d) for layer in range(2)]
    for weights, _ in layers:
        for role in weights:
            weights[role] *= 0.02

    def put(layer, head, role, matrix):
        weight, rows = layers[layer][0][role], slice(head * V, head * V + len(matrix))
        weight[(slice(None), rows) if role == "W_O" else rows] += torch.tensor(
            matrix.T if role == "W_O" else matrix
        ).float()

    put(0, 1, "W_Q", 12 * place[1:])
    put(0, 1, "W_K", 12 * place[:-1])
    put(0, 1, "W_V", token)
    put(0, 1, "W_O", slot)
    put(1, 2, "W_Q", token)
    put(1, 2, "W_K", slot)
    put(1, 2, "W_V", token)
    put(1, 2, "W_O", sign * token)
    return layers, token, place


def test_the_planted_induction_head_is_found_and_no_other():
    layers, token, place = planted()
    pairs = compositions(*model(*layers), NO_NORMS)
    found = head_circuits(*model(*layers), NO_NORMS, tables(token, token, place), pairs).set_index(["layer", "head"])
    assert (pairs.iloc[0][["kind", "layer", "head", "from_layer", "from_head"]] == ["K", 1, 2, 0, 1]).all()
    head, before = found.loc[(1, 2)], found.loc[(0, 1)]
    assert head.label == "copies, induction" and head.copying > 0.9 and head.induction > 0.9
    assert (head.from_layer, head.from_head) == (0, 1)
    assert before.label == "previous token" and before.previous_token > 0.9
    assert (found.drop([(1, 2), (0, 1)])["label"] == "").all()
    assert circuit_maps(found.reset_index()).axes


def test_without_positions_in_the_stream_induction_is_a_question_and_inverting_is_none():
    layers, token, _ = planted()
    pairs = compositions(*model(*layers), NO_NORMS)
    found = head_circuits(*model(*layers), NO_NORMS, tables(token, token), pairs).set_index(["layer", "head"])
    assert found.loc[(1, 2)].label == "copies, induction?" and found["previous_token"].isna().all()
    layers, token, place = planted(-1.0)
    found = head_circuits(*model(*layers), NO_NORMS, tables(token, token, place), pairs).set_index(["layer", "head"])
    assert found.loc[(1, 2)].label == "inverts" and found.loc[(1, 2)].copying < -0.9


def test_attention_by_positions_alone():
    positions = np.eye(N)
    even = attention_backwards(np.zeros((3, N)), np.zeros((3, N)), positions, False)
    assert even[0] == pytest.approx(previous_null(N)) == pytest.approx(np.mean([1 / (i + 1) for i in range(1, N)]))
    same = attention_backwards(9 * np.eye(N), 9 * np.eye(N), positions, False)
    assert same[0] < 0.01 and not same[1]
    shifted = attention_backwards(9 * np.eye(N, k=1).T, 9 * np.eye(N), positions, True)
    assert shifted[0] > 0.9 or not shifted[1]


def test_heads_without_numbers_and_models_without_heads():
    layers = [attention(layer) for layer in range(2)]
    layers[0][0]["W_O"][:, :6] = 0
    layers[1][0]["W_Q"][0, 0] = float("inf")
    E = draw(30, 40, seed=0)
    pairs = compositions(*model(*layers), NO_NORMS)
    found = head_circuits(*model(*layers), NO_NORMS, tables(E, E), pairs).set_index(["layer", "head"])
    assert np.isnan(found.loc[(0, 0)].copying) and np.isnan(found.loc[(1, 0)].matching) and len(found) == 8
    with pytest.raises(NotApplicable, match="no self-attention head"):
        head_circuits(*model(attention(0), stack="encoder"), NO_NORMS, tables(E, E), pairs)


def test_a_card_has_all_that_is_known_of_a_head():
    layers, token, place = planted()
    pairs = compositions(*model(*layers), NO_NORMS)
    found = head_circuits(*model(*layers), NO_NORMS, tables(token, token, place), pairs)
    kernels = pd.DataFrame(
        [{"stack": "decoder", "layer": 1, "component": np.nan, "head": 2, "circuit": "QK", "head_dim": V, "erank": 3.0,
          "erank_null": 4.0, "asymmetry": 1.4, "positivity": 0.1, "label": "LOW-RANK"}]
    )  # fmt: skip
    directions = pd.DataFrame(
        [{"kind": "OV", "layer": 1, "component": "", "head": 2, "direction": 1, "sigma": 1.0, "energy": 0.5,
          "energy_null": 0.1, "gap": 0.2, "kurt": 9.0, "up": ["<b>"], "down": ["\n"]}]
    )  # fmt: skip
    cards = head_cards(found, pairs, kernels, directions).set_index(["layer", "head"])
    card = cards.loc[(1, 2)]
    assert card.reads_from[0]["from_head"] == 1 and card.reads_from[0]["label"] == "composes"
    assert len(card.reads_from) == 3
    assert card.kernels["QK"]["label"] == "LOW-RANK" and card.directions[0]["up"] == ["<b>"]
    assert cards.loc[(0, 1)].read_by[0]["head"] == 2 and cards.loc[(0, 0)].reads_from == []
    bare = head_cards(found, None, None, None)
    assert bare["kernels"].tolist() == [{}] * 8 and bare["directions"].tolist() == [[]] * 8
