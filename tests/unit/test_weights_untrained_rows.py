"""Rows that repeat or resemble others, and rows of embeddings without training: against brute force, and planted."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import weight_atlas as wa
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.figures.untrained_rows import norms_of_rows
from weight_atlas.tokens.tokenizer import token_names
from weight_atlas.weights import near_rows as near
from weight_atlas.weights.row_classes import repeated_rows, row_classes
from weight_atlas.weights.untrained_rows import SIGNS, expected_near_pairs, known_unused, untrained_rows
from weight_atlas.weights.vocabulary_matrices import untrained_tokens


def of(x: np.ndarray):
    return lambda start, end: x[start:end].astype(np.float64)


def gaussian(count: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, columns)) * 0.02


def repeats(x: np.ndarray) -> list[tuple]:
    table = repeated_rows(row_classes(of(x), *x.shape))
    return list(table.itertuples(index=False, name=None))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn])
def test_repeated_rows_are_those_of_brute_force(dtype):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(60, 24, generator=random).to(dtype)
    x[50], x[51], x[52] = x[3], (-x[3].float()).to(dtype), (x[7].float() * 4).to(dtype)
    x[53], x[54] = 0.0, -0.0
    x[55, 2], x[56, 2] = float("nan"), float("nan")
    x[57] = (torch.randint(-2, 3, (24,), generator=random) * 2).to(dtype)
    x[58] = (x[57].float() * 1.5).to(dtype)  # exact, since these are small integers
    values = x.double().numpy()
    expected = []
    for row in range(60):
        earlier = {}
        for first in range(row):
            a, b = values[row], values[first]
            if not np.isfinite(a + b).all() or not a.any() or not b.any():
                continue
            # Proportional if all 2 x 2 determinants are 0: exact for such values in float64.
            if all(a[i] * b[j] == a[j] * b[i] for i in range(24) for j in range(i)):
                how = "identical" if (a == b).all() else "opposite" if (a == -b).all() else "scaled"
                earlier.setdefault(how, first)
        if earlier:
            expected.append(
                next((row, earlier[how], how) for how in ("identical", "opposite", "scaled") if how in earlier)
            )
    assert repeats(values) == expected
    assert [how for _, _, how in expected] == ["identical", "opposite", "scaled", "scaled"]


def test_rows_of_few_values_do_not_collide():
    # Ternary rows differ in the leading bits of their elements alone.
    x = np.array(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 8)).reshape(8, -1).T
    found = repeats(x)
    assert len(found) == (3**8 - 1) / 2 and {how for _, _, how in found} == {"opposite"}
    assert repeats(x[:0]) == repeats(np.zeros((5, 0))) == repeats(np.ones((1, 1))) == []


def test_near_rows_of_all_pairs():
    x = gaussian(700, 40)
    x[600] = x[5] * 3 + gaussian(1, 40, 1)[0] * 0.1
    x[10], x[11, 0] = 0.0, np.nan
    found = near.near_rows(of(x), 700, 40, 0.5)
    with np.errstate(invalid="ignore"):
        unit = x / np.sqrt((x**2).sum(1, keepdims=True))
    cosines = np.nan_to_num(unit @ unit.T, nan=-2.0)
    np.fill_diagonal(cosines, -2)
    expected = np.where(cosines.max(1) > 0.5, cosines.argmax(1), -1)
    assert found.partner.tolist() == expected.tolist() and found.partner[600] == 5
    assert np.allclose(found.cosine[expected >= 0], cosines.max(1)[expected >= 0]) and found.method == "exact"


def test_near_rows_by_projections_find_planted_pairs(monkeypatch):
    monkeypatch.setattr(near, "EXACT_ROWS", 100)
    x = gaussian(3000, 64) + 0.01  # rows share a direction, as embeddings do
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    x[2900:] = near._turned(unit[:100], 0.9901, np.random.default_rng(1)) * 5
    x[50:55] = x[49]
    found = near.near_rows(of(x), 3000, 64, 0.99)
    assert (found.partner[2900:2949] == np.arange(49)).mean() > 0.97 and (found.partner[50:55] >= 49).all()
    assert found.method == "projections" and found.recall > 0.98
    assert (found.partner[100:2900] == -1).all()
    assert np.nanmin(found.cosine) > 0.99


@pytest.mark.parametrize(("count", "columns"), [(500, 8), (2000, 64), (300, 300), (1, 4), (0, 4), (5, 1)])
def test_a_random_initialisation_has_no_sign(count, columns):
    for seed in range(3):
        x = torch.from_numpy(gaussian(count, columns, seed)).bfloat16().double().numpy()
        unused = np.arange(count - count // 10, count)
        found = untrained_rows(of(x), x.shape, unused=unused, initial=0.02, embedding=True)
        assert found.summary["untrained"] == 0, found.summary
        assert len(found.rows) == count


def test_a_few_unused_rows_agree_with_their_own_mean_only():
    x = gaussian(300, 300)
    found = untrained_rows(of(x), x.shape, unused=np.arange(3), initial=None, embedding=True)
    assert found.rows.loc[:2, "cosine"].min() > 0.5, "each is a third of the mean"
    assert found.summary["untrained"] == 0 and np.isnan(found.summary["unused_threshold"])


def trained(count: int = 2000, columns: int = 64) -> np.ndarray:
    """Rows of various norms around a common mean, as trained embeddings have them."""
    random = np.random.default_rng(1)
    return gaussian(count, columns) * np.exp(random.normal(1.2, 0.15, (count, 1))) + gaussian(1, columns, 2)


def signs(x: np.ndarray, **given) -> dict[str, list[int]]:
    given = {"unused": np.array([], dtype=int), "initial": None, "embedding": True} | given
    rows = untrained_rows(of(x), x.shape, **given).rows
    return {sign: rows.index[[sign in row.split() for row in rows["signs"]]].tolist() for sign in SIGNS}


def test_planted_rows_are_found_and_nothing_else():
    x = trained()
    assert not any(signs(x).values())
    x[7] = 0.0
    x[20], x[21] = x[19], -x[18]
    x[30] = x[31] + gaussian(1, 64, 3)[0] * 0.05
    x[40:50] = x.mean(0) + gaussian(10, 64, 4) * 0.1  # each its own direction: a norm alone
    found = signs(x)
    expected = {"zero": [7], "identical": [18, 19, 20, 21], "near_identical": [30, 31], "low_norm": [7]}
    low = [row for row in found["low_norm"] if row not in range(40, 50)]
    assert low == [] and found | {"low_norm": [7]} == {sign: expected.get(sign, []) for sign in SIGNS}


def test_a_common_direction_is_told_by_rows_that_are_known_to_be_unused():
    x = trained()
    x[1900:] = gaussian(1, 64, 5) * 3 + gaussian(100, 64, 6) * 0.5
    assert not signs(x)["like_unused"], "without known rows it is any direction"
    found = signs(x, unused=np.arange(1900, 1910))
    assert len(found["like_unused"]) >= 95 and min(found["like_unused"]) >= 1900
    assert not signs(trained(), unused=np.arange(10))["like_unused"]


def test_rows_as_large_as_at_the_initialisation():
    x = trained()
    x[1500:1600] = gaussian(100, 64, 7)
    found = signs(x, initial=0.02)["initial"]
    assert set(found) >= set(range(1500, 1600)) and len(found) <= 102
    assert not signs(trained(), initial=0.05)["initial"], "the tail of the others is no group of its own"


def test_names_of_tokens_that_no_text_can_train():
    letters = ["Ġ", "Ċ", "À", "õ", "ÿ", "a", None, "[unused7]", "<|reserved_special_token_3|>", "<0xFF>", "<0x41>"]
    assert known_unused(letters, 13).tolist() == [2, 3, 4, 6, 7, 8, 9, 11, 12]
    assert known_unused(["õ", "À"], 2).tolist() == [], "letters of a vocabulary that is not of bytes"
    assert known_unused([], 5).tolist() == [], "without a tokenizer nothing is known"


def test_names_are_those_of_the_tokenizer(tmp_path):
    from weight_atlas.tokens.tokenizer import load_tokenizer

    folder = wa.open("bundled:demo").checkpoint.folder
    names = token_names(folder, trust_remote_code=False)
    assert {name: place for place, name in enumerate(names)} == load_tokenizer(
        folder, trust_remote_code=False
    ).get_vocab()
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    added = '{"added_tokens_decoder": {"2049": {"content": "<new>"}}}'
    (tmp_path / "tokenizer_config.json").write_text(added)
    assert token_names(tmp_path, trust_remote_code=False) == [*names, None, "<new>"]
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(AtlasError, match="cannot be loaded"):
        token_names(tmp_path, trust_remote_code=False)


def test_expected_pairs_are_those_of_random_rows():
    pairs = 0
    for seed in range(20):
        x = gaussian(400, 6, seed)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        pairs += (np.triu(unit @ unit.T, 1) > 0.95).sum()
    assert pairs / 20 == pytest.approx(expected_near_pairs(400, 6, 0.95), rel=0.15)


def test_the_bundled_model():
    model = wa.open("bundled:demo")
    names = token_names(model.checkpoint.folder, trust_remote_code=False)
    rows, summary = untrained_tokens(model.inventory, model._load, names, model.checkpoint.config)
    by_role = summary.set_index("role")
    assert by_role.loc["W_E", "untrained"] == 0, "its embedding has stayed near its initialisation as a whole"
    # Bytes that never occur in its corpus: all of them were pushed the same way by the softmax.
    untrained = set(rows[(rows["signs"] != "") & (rows["role"] == "W_U")]["token"])
    assert {chr(byte) for byte in (0xC0, 0xC1, *range(0xF5, 0x100))} <= untrained
    assert len(untrained) == by_role.loc["W_U", "untrained"] < 150
    assert not {"Ġthe", "Ġof", "Ġa", "e", "Ġreturn"} & untrained
    assert by_role.loc["W_U", "unused_agreement"] > 0.99
    norms_of_rows(rows).draw_without_rendering()


def test_models_without_an_embedding_and_without_a_tokenizer():
    table = pd.DataFrame({"id": ["w"], "role": ["W_E"], "cols": [4], "readable": [True], "tied_to": [""]})
    table = table.assign(parameters=80, component="")
    rows, summary = untrained_tokens(table, lambda row: torch.ones(20, 4) * torch.arange(20)[:, None], [], {})
    assert summary.loc[0, "known_unused"] == 0 and set(rows["token"]) == {""} and not rows["in_tokenizer"].any()
    assert rows.loc[0, "signs"] == "zero" and (rows["signs"] != "").sum() == 1
    norms_of_rows(rows[rows["norm"] == 0]).draw_without_rendering()
    with pytest.raises(NotApplicable):
        untrained_tokens(table.assign(role="W_Q"), SimpleNamespace, [], {})
