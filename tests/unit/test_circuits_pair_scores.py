"""The tables of composition scores made in parts are those made at once, and no part is large."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control
from test_circuits_composition import NO_NORMS, attention, model
from test_circuits_heads import planted, tables

from weight_atlas.artifacts import read_frames, read_table, write_frames, write_table
from weight_atlas.circuits import composition
from weight_atlas.circuits import pair_scores as module
from weight_atlas.circuits.composition import compositions, pair_scores
from weight_atlas.circuits.head_cards import head_cards, leading_pairs
from weight_atlas.circuits.head_circuits import head_circuits
from weight_atlas.circuits.pair_scores import PAIR, PairScores, by_layers
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.metrics import table_of
from weight_atlas.pages.html import sections
from weight_atlas.statistics import order
from weight_atlas.statistics.corrections import false_discovery_rates
from weight_atlas.statistics.order import ordered

ROWS = 40


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(module, "ROWS", ROWS)
    monkeypatch.setattr(order, "BAND", 64)
    monkeypatch.setattr(composition, "MEMORY", 1)


def layers_with_everything():
    """Two stacks, cross-attention, heads that are alike, one of zeros and one that is not finite."""
    alike = attention(2)
    for role, weight in alike[0].items():
        sides = weight.T if role == "W_O" else weight
        sides[6:12] = sides[:6]
    own = [attention(0), attention(1), alike, attention(3)]
    own[0][0]["W_O"][:, :6] = 0
    own[3][0]["W_Q"][7, 3] = float("nan")
    parts = [model(*own), model(attention(4), attention(5), component="cross_attention"),
             model(attention(6), attention(7), stack="encoder")]  # fmt: skip
    loads = {row: load for rows, load in parts for row in rows["id"]}
    return pd.concat([rows for rows, _ in parts], ignore_index=True), lambda row: loads[row.id](row)


def scores():
    return pair_scores(*layers_with_everything(), NO_NORMS)


def test_the_table_is_sorted_and_corrected_as_a_whole(in_parts):
    frames = list(scores().frames())
    whole = pd.concat(frames, ignore_index=True)
    assert {len(frame) for frame in frames[:-1]} == {ROWS} and 0 < len(frames[-1]) <= ROWS and len(frames) > 5
    keys = ["excess", *PAIR]
    wanted = whole.sample(frac=1, random_state=0).sort_values(keys, ascending=[False, *[True] * len(PAIR)])
    pd.testing.assert_frame_equal(whole, wanted.reset_index(drop=True))
    assert whole["excess"].duplicated().any(), "no two heads are alike"
    np.testing.assert_allclose(whole["q"], false_discovery_control(whole["p"]), rtol=1e-10)
    assert not whole[PAIR].duplicated().any() and whole.notna().all(axis=None)
    assert {str(each) for each in whole.dtypes} == {"str", "int64", "float64"}


def test_parts_change_nothing(in_parts, monkeypatch):
    parts = pd.concat(scores().frames(), ignore_index=True)
    summary, of_whole = scores().by_layers(), by_layers(parts)
    pd.testing.assert_frame_equal(summary, of_whole, rtol=1e-14, atol=0)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(parts, compositions(*layers_with_everything(), NO_NORMS), check_exact=True)
    pd.testing.assert_frame_equal(scores().by_layers(), of_whole, check_exact=True)


@pytest.mark.parametrize("count", [0, 1, 17, 150, 10_000])
def test_the_largest_are_the_first_rows(in_parts, count):
    found = scores()
    whole = pd.concat(found.frames(), ignore_index=True)
    pd.testing.assert_frame_equal(found.largest(count), whole.head(count))
    assert found.stacks == ["decoder", "encoder"]
    for stack in found.stacks:
        wanted = whole[whole["stack"] == stack].head(count).reset_index(drop=True)
        pd.testing.assert_frame_equal(found.largest(count, stack), wanted)


def test_no_table_of_more_rows_than_a_frame_or_a_layer_is_made(in_parts, monkeypatch):
    made, table = [], PairScores.table
    monkeypatch.setattr(PairScores, "table", lambda self, index: made.append(len(index)) or table(self, index))
    found = pair_scores(*model(*[attention(layer, heads=2, kv_heads=2) for layer in range(9)]), NO_NORMS)
    assert sum(map(len, found.frames())) == 3 * 4 * 36 and max(made) == ROWS
    made.clear()
    found.by_layers(), found.largest(ROWS)
    assert max(made) == 3 * 4 * 8  # what the last layer reads


def test_a_model_whose_pairs_have_no_score_has_empty_tables():
    layers = [attention(layer) for layer in range(2)]
    layers[0][0]["W_O"][:] = 0
    found = pair_scores(*model(*layers), NO_NORMS)
    (frame,) = found.frames()
    assert frame.empty and found.largest(3).empty and found.by_layers().empty
    assert list(frame.columns) == list(scores().largest(1).columns)


def test_circuits_and_cards_need_the_leading_pairs_alone(in_parts, tmp_path):
    layers, token, place = planted()
    held = pair_scores(*model(*layers), NO_NORMS)
    whole = pd.concat(held.frames(), ignore_index=True)
    write_frames(tmp_path / "pairs.parquet", held.frames())
    few = leading_pairs(read_frames(tmp_path / "pairs.parquet"))
    made = [head_circuits(*model(*layers), NO_NORMS, tables(token, token, place), each) for each in (whole, few)]
    pd.testing.assert_frame_equal(*made)
    for pairs in (whole, pd.concat(scores().frames(), ignore_index=True)):
        cut = leading_pairs([pairs[start : start + ROWS] for start in range(0, len(pairs), ROWS)])
        cards = [head_cards(made[0], each, None, None) for each in (pairs, cut)]
        assert cards[0]["reads_from"].tolist() == cards[1]["reads_from"].tolist()
        assert cards[0]["read_by"].tolist() == cards[1]["read_by"].tolist()
    assert len(cut) < len(pairs)


@pytest.mark.parametrize("kind", ["random", "ties", "same", "missing", "few", "none"])
def test_the_order_in_bands_is_that_of_a_stable_sort(monkeypatch, kind):
    monkeypatch.setattr(order, "BAND", 100)
    random = np.random.default_rng(1)
    values = {"random": random.standard_normal(1234), "ties": random.integers(5, size=1234) / 2, "same": np.ones(500),
              "missing": np.where(random.random(900) < 0.3, np.nan, random.random(900)), "few": random.random(7),
              "none": np.empty(0)}[kind]  # fmt: skip
    wanted = np.argsort(values, kind="stable")
    bands = list(ordered(values))
    np.testing.assert_array_equal(np.concatenate(bands), wanted)
    np.testing.assert_array_equal(np.concatenate(list(ordered(values, last_first=True))[::-1]), wanted)
    if kind == "random":
        assert len(bands) == 13 and max(map(len, bands)) < 150
    if len(values) and kind != "missing":
        p = np.exp(-np.abs(values))
        np.testing.assert_allclose(np.exp(false_discovery_rates(np.log(p))), false_discovery_control(p), rtol=1e-12)


def test_frames_of_a_table_are_read_as_the_whole_is(tmp_path):
    path, frame = tmp_path / "table.parquet", pd.DataFrame({"a": ["x", ""], "b": [1, 2], "c": [0.5, np.nan]})
    write_frames(path, [frame, frame[:1]])
    assert [len(each) for each in read_frames(path)] == [2, 1]
    pd.testing.assert_frame_equal(pd.concat(read_frames(path), ignore_index=True), read_table(path))
    write_table(path, frame[:0])
    pd.testing.assert_frame_equal(*read_frames(path), read_table(path))
    write_table(path, pd.DataFrame({"not_applicable": ["one layer"]}))
    with pytest.raises(NotApplicable, match="one layer"):
        next(read_frames(path))
    path.write_bytes(b"PAR1")
    with pytest.raises(AtlasError, match="cannot be read"):
        next(read_frames(path))


def test_a_page_holds_only_the_rows_that_it_shows_of_a_very_long_table(in_parts, tmp_path, monkeypatch):
    path = tmp_path / "head_composition" / "m.parquet"
    write_frames(path, scores().frames())
    monkeypatch.setattr(sections, "MOST_CELLS", 14 * 50)
    shown = []
    for long in (10**7, 100):
        monkeypatch.setattr(sections, "LONG", long)
        tables = sections.tables_in([path], tmp_path)
        shown.append(sections._told(tables[path], table_of("head_composition/m.parquet")).reset_index(drop=True))
    pd.testing.assert_frame_equal(*shown)
    assert len(tables[path]) == 50 and tables[path].attrs == {sections.COUNT: len(read_table(path))}
