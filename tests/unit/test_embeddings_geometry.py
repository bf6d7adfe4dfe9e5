"""Positions and tokens: numbers against numpy's plain way, planted courses and directions, and noise at its null."""

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.embeddings import positions, vectors
from weight_atlas.embeddings.geometry import embedding_table, embeddings_of, neighbour_table, token_table
from weight_atlas.embeddings.token_texts import token_texts, with_texts
from weight_atlas.errors import NotApplicable
from weight_atlas.settings.embeddings import EmbeddingGeometry

RANDOM = np.random.default_rng(0)


def test_the_correlation_of_neighbours_is_pearsons():
    values = RANDOM.standard_normal((9, 40))
    table = positions.position_table(values)
    assert table.correlation[:8].tolist() == pytest.approx(
        [np.corrcoef(values[i], values[i + 1])[0, 1] for i in range(8)]
    )
    cosines = [values[i] @ values[i + 1] / np.linalg.norm(values[i]) / np.linalg.norm(values[i + 1]) for i in range(8)]
    assert table.cosine[:8].tolist() == pytest.approx(cosines) and table.cosine.isna()[8]
    assert table.norm.tolist() == pytest.approx(np.linalg.norm(values, axis=1).tolist())


def test_smoothness_is_one_for_a_course_nought_for_noise_and_negative_for_a_zigzag():
    steps = np.linspace(0, 1, 400)[:, None]
    assert positions.smoothness(steps * np.ones((1, 3)))[0] > 0.999
    zigzag = np.where(np.arange(400) % 2, 1.0, -1.0)[:, None] * np.ones((1, 3))
    assert positions.smoothness(zigzag)[0] == pytest.approx(-1, abs=0.01)
    found = [positions.smoothness(RANDOM.standard_normal((50, 8)))[0] for _ in range(300)]
    assert np.std(found) == pytest.approx(positions.smoothness_deviation(50, 8), rel=0.15)
    assert abs(np.mean(found)) < 4 * positions.smoothness_deviation(50, 8) / 300**0.5
    assert np.isnan(positions.smoothness(np.ones((5, 2)))[0])


def test_dimensions_have_their_period_beside_what_noise_shows():
    values = RANDOM.standard_normal((128, 10)) * np.arange(1, 11)
    values[:, 3] += 40 * np.sin(2 * np.pi * np.arange(128) / 16)
    values[:, 5] = np.linspace(-9, 9, 128)
    table = positions.dimension_table(values, [7, -1, 99], 1).set_index("dimension")
    assert table.index[table.periodic].tolist() == [3] and table.period[3] == 16
    assert table.variance.tolist() == pytest.approx(values.var(axis=0).tolist())
    shown = table.shown[table.shown != ""].to_dict()
    order = np.argsort(values.var(axis=0))
    assert shown[order[0]] == "lowest variance" and shown[7] == "chosen" and "median variance" in shown.values()
    assert shown[3] == "highest variance"
    power = np.abs(np.fft.fft(values[:, 0] - values[:, 0].mean())[1:65]) ** 2
    assert table.peak_share[0] == pytest.approx(power.max() / power.sum())


def test_noise_is_called_periodic_in_one_model_of_a_hundred_at_most():
    called = sum(
        positions.dimension_table(np.random.default_rng(seed).standard_normal((64, 32)), [], 1).periodic.any()
        for seed in range(200)
    )
    assert called <= 6
    assert positions.peak_share_null(1, 5) == 1.0


def test_the_gram_image_and_the_periodogram():
    values = RANDOM.standard_normal((12, 6))
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    assert positions.gram(values) == pytest.approx(unit @ unit.T)
    wave = np.sin(2 * np.pi * 3 * np.arange(64) / 64)[:, None] * np.ones((1, 4))
    assert positions.periodogram(wave).argmax() == 2 and positions.periodogram(wave).sum() == pytest.approx(1)
    assert positions.periodogram(np.ones((8, 2))).sum() == 0


def plain(rows):
    """The measures of a cloud, the long way."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    count = len(rows)
    variances = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1]
    return {
        "mean_cosine": (unit @ unit.T)[np.triu_indices(count, 1)].mean(),
        "common_share": (rows.mean(axis=0) ** 2).sum() / (rows**2).sum(axis=1).mean(),
        "first_share": variances[0] / variances.sum(),
        "norm_median": np.median(np.linalg.norm(rows, axis=1)),
        "norm_std": np.linalg.norm(rows, axis=1).std(),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_measures_of_a_cloud_are_those_of_the_long_way(dtype, monkeypatch):
    monkeypatch.setattr(vectors, "CHUNK", 17)
    weight = (torch.randn(100, 12) + torch.linspace(0, 2, 12)).to(dtype)
    weight[5] = 0
    weight[40, 3] = float("nan")
    kept = np.delete(weight.double().numpy(), [5, 40], axis=0)
    measures, table, variances = vectors.cloud(weight)
    for name, value in plain(kept).items():
        assert measures[name] == pytest.approx(value, rel=1e-9), name
    assert (measures["rows"], measures["used_rows"], measures["zero_rows"]) == (100, 98, 1)
    assert np.isnan(table.norm[40]) and table.norm[5] == 0 and table.mean_cosine.isna()[[5, 40]].all()
    largest = np.linalg.norm(kept, axis=1).max() ** 2
    assert variances * largest == pytest.approx(np.linalg.eigvalsh(np.cov(kept.T, bias=True))[::-1], rel=1e-6)


@pytest.mark.parametrize("size", [1e-300, 1e-3, 1e300])
def test_sizes_do_not_matter(size):
    rows = RANDOM.standard_normal((50, 8))
    with np.errstate(over="ignore"):
        found, expected = vectors.cloud(rows * size)[0], vectors.cloud(rows)[0]
    for name in ("mean_cosine", "common_share", "first_share", "isoscore"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6), name


def test_a_gaussian_cloud_is_at_its_nulls_and_a_cone_is_not():
    noise = RANDOM.standard_normal((3000, 40))
    found, _, _ = vectors.cloud(noise)
    assert abs(found["mean_cosine"]) < 4 * found["mean_cosine_null_sd"]
    assert found["common_share"] == pytest.approx(found["common_share_null"], rel=0.6)
    assert found["first_share"] == pytest.approx(found["first_share_null"], rel=0.03)
    assert found["isoscore"] == pytest.approx(found["isoscore_null"], abs=0.01)
    cone, _, _ = vectors.cloud(noise + 3)
    assert cone["mean_cosine"] > 0.8 and cone["common_share"] > 0.8


def test_isoscore_of_a_ball_a_line_and_between():
    assert vectors.isoscore(np.ones(9)) == pytest.approx(1)
    assert vectors.isoscore(np.array([1.0, *np.zeros(8)])) == pytest.approx(0, abs=1e-12)
    assert vectors.isoscore(np.array([1.0] * 5 + [0.0] * 5)) == pytest.approx(4 / 9, abs=1e-9), (
        "k of d: (k - 1)/(d - 1)"
    )
    assert np.isnan(vectors.isoscore(np.zeros(3)))


def test_neighbours_are_those_of_a_whole_search(monkeypatch):
    monkeypatch.setattr(vectors, "CHUNK", 13)
    weight = torch.randn(80, 6)
    weight[9], weight[60], weight[33] = weight[70], weight[70], 0
    norms = vectors.row_norms(weight)
    found = vectors.nearest(weight, norms, [70, 2], 5)
    unit = weight.double().numpy() / np.where(norms > 0, norms, 1)[:, None]
    for token in (70, 2):
        cosines = unit @ unit[token]
        cosines[[token, 33]] = -np.inf
        order = np.lexsort((np.arange(80), -cosines.round(12)))[:5]
        own = found[found.token_id == token]
        assert own.neighbour_id.tolist() == order.tolist() and own.cosine.tolist() == pytest.approx(
            cosines[order].tolist()
        )
    assert found.neighbour_id[:2].tolist() == [9, 60], "equal rows by their ids"


def test_the_null_of_the_nearest_is_its_median():
    drawn = []
    for seed in range(200):
        rows = np.random.default_rng(seed).standard_normal((50, 10))
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        drawn.append((unit[1:] @ unit[0]).max())
    assert vectors.nearest_null(50, 10) == pytest.approx(np.median(drawn), abs=0.02)
    assert np.isnan(vectors.nearest_null(1, 10)) and vectors.nearest_null(2, 10) == 0


def test_tokens_are_chosen_by_norm_and_place():
    norms = np.array([3.0, 0.0, 1.0, np.nan, 2.0, 5.0])
    chosen = vectors.chosen_tokens(norms, 1, [4, 1, 77])
    assert chosen == {4: "given", 5: "highest norm", 2: "lowest norm", 0: "spread"}
    assert vectors.chosen_tokens(norms, 0, []) == {} and vectors.chosen_tokens(np.zeros(3), 2, []) == {}


def model(**tensors):
    rows = [{"id": role, "role": role, "stack": "decoder"} for role in tensors]
    return pd.DataFrame(rows), lambda row: tensors[row.id]


def test_the_tables_of_a_model_with_positions():
    table, load = model(W_E=torch.randn(60, 8), W_pos=torch.randn(20, 8), W_U=torch.zeros(60, 8))
    found = embeddings_of(table, load, EmbeddingGeometry(shown=1))
    measures = embedding_table(found).set_index("role")
    assert measures.smoothness.notna().tolist() == [False, False, True]
    assert measures.status["W_U"].startswith("fewer than two rows") and measures.status["W_E"] == "ok"
    assert token_table(found.clouds).groupby("id").size().to_dict() == {"W_E": 60, "W_U": 60}
    near = neighbour_table(found.clouds, EmbeddingGeometry(tokens=2, neighbours=3))
    assert set(near.id) == {"W_E"} and near.groupby("token_id").size().eq(3).all()
    assert len(neighbour_table(found.clouds, EmbeddingGeometry(neighbours=0))) == 0


def test_what_a_model_lacks_is_said():
    table, load = model(W_E=torch.randn(60, 8))
    found = embeddings_of(table, load, EmbeddingGeometry())
    with pytest.raises(NotApplicable, match="no learned positions: its position encoding is rotary"):
        found.required_positions("rotary")
    table, load = model(W_pos=torch.full((20, 8), float("nan")))
    found = embeddings_of(table, load, EmbeddingGeometry())
    with pytest.raises(NotApplicable, match="no finite numbers"):
        found.required_positions("learned")
    with pytest.raises(NotApplicable, match="no token embedding"):
        found.required_clouds()
    with pytest.raises(NotApplicable, match="neither a token embedding"):
        embeddings_of(table[:0], load, EmbeddingGeometry())


def test_tokens_have_their_texts_where_there_is_a_tokenizer(tmp_path):
    from weight_atlas.data_sets import __file__ as here

    demo = __import__("pathlib").Path(here).parent / "data/demo/model"
    texts = token_texts(demo, [0, 300, 10**6])
    assert texts[300] and texts[10**6] == ""
    near = pd.DataFrame({"token_id": [300], "neighbour_id": [0]})
    assert with_texts(near, demo).token[0] == texts[300] and with_texts(near, tmp_path).token[0] == ""
    (tmp_path / "tokenizer.json").write_text("{")
    assert token_texts(tmp_path, [1]) == {1: ""}
