"""Which models come from which, planted: fine-tunes, copies in other formats, merges, unrelated and rotated ones."""

import numpy as np
import pandas as pd
import pytest
import torch
from compared_models import D_MODEL, name, weights, write

from weight_atlas import metrics
from weight_atlas.comparison.choices import related_models
from weight_atlas.comparison.lineage import lineage, told_table
from weight_atlas.comparison.merges import merge_of
from weight_atlas.comparison.profiles import model_profile
from weight_atlas.comparison.sketch import COLUMNS, LEAST, MOST, places, sketch
from weight_atlas.errors import AtlasError
from weight_atlas.families.pieces import load_piece, matrices
from weight_atlas.figures.lineage import lineage_map
from weight_atlas.spectra.table import singular_value_table
from weight_atlas.workflow.configuration import configured


def tuned(seed, base=None, step=0.003):
    """Weights a little further on, as after some training; norms stay."""
    random = torch.Generator().manual_seed(seed)
    base = weights() if base is None else base
    return {
        key: (value.float() + step * torch.randn(value.shape, generator=random) * (value.ndim > 1)).to(value.dtype)
        for key, value in base.items()
    }


def mixed(parts):
    """The weighted sum of weights, rounded once more."""
    first = next(iter(parts))[1]
    return {key: sum(share * part[key].float() for share, part in parts).to(first[key].dtype) for key in first}


class Models:
    """Profiles of models by what they are, each made once."""

    def __init__(self, folder):
        self.folder = folder
        self.made = {}

    def profile(self, called, tensors, **config):
        return self.of(called, write(self.folder / called, tensors, **config))

    def of(self, called, side):
        own = matrices(side.inventory)
        squares = {
            row.id: load_piece(side.checkpoint, row).double().square().sum(1).numpy() for row in own.itertuples()
        }
        spectra = singular_value_table(own, lambda row: load_piece(side.checkpoint, row))
        self.made[called] = model_profile(called, sketch(side.checkpoint, side.inventory), squares, spectra)
        return self.made[called]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = Models(tmp_path_factory.mktemp("models"))
    one, two = tuned(1), tuned(2)
    made.profile("base", weights())
    made.profile("one", one)
    made.profile("two", two)
    made.profile("merge", mixed([(0.3, one), (0.7, two)]))
    made.profile("twin", weights(seed=9))
    made.profile("mix", mixed([(0.5, weights()), (0.5, weights(seed=9))]))
    made.profile("third", mixed([(0.3, weights()), (0.7, weights(seed=9))]))
    made.profile("half", {key: value.to(torch.float8_e4m3fn).half() for key, value in weights().items()})
    made.profile("one-half", {key: value.half() for key, value in one.items()})
    turn = torch.linalg.qr(torch.randn(D_MODEL, D_MODEL, generator=torch.Generator().manual_seed(4))).Q
    made.profile("rotated", {key: turned(key, value.float(), turn).bfloat16() for key, value in weights().items()})
    made.profile("narrow", narrow(), **{"hidden_size": 32, "head_dim": 16})
    return made.made


def turned(key, value, turn):
    """A tensor of a model whose residual stream is rotated."""
    if value.ndim == 1:
        return value
    return turn.T @ value if "o_proj" in key or "down_proj" in key else value @ turn


def narrow():
    """A model of half the width."""
    found = {}
    for key, value in weights().items():
        first = 32 if value.ndim == 1 or "o_proj" in key or "down_proj" in key else value.shape[0]
        found[key] = value[:first] if value.ndim == 1 or "o_proj" in key or "down_proj" in key else value[:first, :32]
    return found


def told(models, *names):
    found = lineage([models[each] for each in names])
    return found, [each["text"] for each in found.told]


def relations(found):
    return {(row.a, row.b): row.relation for row in found.pairs.itertuples()}


def test_places_are_those_of_the_shape_and_fewer_begin_more():
    assert places(300, 200, MOST)[:LEAST].tolist() == places(300, 200, LEAST).tolist()
    assert places(4, 5, MOST).tolist() == list(range(20))
    assert places(300, 200, MOST).max() < 60_000 and len(np.unique(places(300, 200, MOST))) > 3800


def test_fine_tunes_are_told_from_an_unrelated_twin(models):
    found, texts = told(models, "one", "base", "two", "twin")
    assert found.families == [["one", "base", "two"], ["twin"]]
    assert set(relations(found).values()) == {"one family", "unrelated"}
    assert texts[0].startswith("one is a fine-tune of base: 0.99")
    assert "% of the signs differ (of unrelated matrices 50" in texts[0]
    assert texts[1].startswith("two is a fine-tune of base: ")
    assert texts[2].startswith("twin is unrelated to one, though of the same shape: ")
    assert len(texts) == 3 and found.merges.empty


def test_the_numbers_are_those_of_the_weights(models):
    found, _ = told(models, "base", "one")
    row = found.pairs.iloc[0]
    pairs = [(weights()[key].double(), tuned(1)[key].double()) for key, value in weights().items() if value.ndim > 1]
    signs = [((a * b) < 0).sum() / ((a * b) != 0).sum() for a, b in pairs]
    assert row["sign_distance"] == pytest.approx(2 * float(np.mean(signs)), rel=0.15)
    a, b = (torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1))
    assert row["cosine"] == pytest.approx(float(a @ b / a.norm() / b.norm()), abs=2e-4)
    assert row["sign_distance_null"] == pytest.approx(1, abs=0.03)
    # Angle of the vectors, from signs as from the cosine.
    assert row["sign_distance"] * 90 == pytest.approx(np.degrees(np.arccos(row["cosine"])), rel=0.2)


def test_two_models_do_not_tell_which_was_first(models):
    _, texts = told(models, "base", "one")
    assert len(texts) == 1 and texts[0].startswith(
        "one and base come from one another or from one beginning (which was first, "
    )


def test_copies_in_another_format_are_no_fine_tunes(models):
    for order in (("base", "half"), ("half", "base")):  # whichever comes first
        found, texts = told(models, *order)
        assert relations(found)[order] == "same weights in another format"
    _, texts = told(models, "base", "one", "one-half", "two")
    assert texts[1].startswith("one-half is one in another format: 0 % of the signs differ")
    assert texts[0].startswith("one is a fine-tune of base")
    found, _ = told(models, "base", "one-half")
    assert relations(found) == {("base", "one-half"): "one family"}  # another type, and trained as well


def test_a_merge_is_the_sum_of_its_parents(models):
    found, texts = told(models, "base", "one", "two", "merge", "twin")
    (text,) = [text for text in texts if "merge:" in text]
    assert text.startswith("merge is a merge: 0.30 one + 0.70 two, which leaves 0.0017 of its norm")
    assert sum("fine-tune" in text for text in texts) == 2
    assert set(found.merges["model"]) == {"merge"}
    shares = found.merges.groupby("parent")["weight"]
    assert shares.median()["one"] == pytest.approx(0.3, abs=0.02) and shares.median()["two"] == pytest.approx(
        0.7, abs=0.02
    )
    assert (found.merges["residual"] < 0.3 * found.merges["nearest"]).all()
    assert found.merges[["id", "role", "layer"]].values[4].tolist() == [name(0, "mlp.down_proj.weight"), "W_down", 0]


@pytest.mark.parametrize(("mix", "share"), [("mix", 0.5), ("third", 0.3)])
def test_a_mix_of_unrelated_models_is_a_merge_where_both_are_there(models, mix, share):
    for order in (("base", mix, "twin"), (mix, "twin", "base")):
        found, texts = told(models, *order)
        (text,) = [text for text in texts if text.startswith(f"{mix} is a merge: ")]
        assert f"{share:.2f} base" in text and f"{1 - share:.2f} twin" in text
        assert len(texts) == 2 and sum("unrelated" in text for text in texts) == 1, texts
        assert set(found.merges["model"]) == {mix}
    _, texts = told(models, "base", "one", mix, "twin")
    assert sum(f"{mix} is a merge" in text for text in texts) == 1


def test_a_mix_whose_other_parent_is_not_there_is_no_proof_of_a_beginning(models):
    _, (text,) = told(models, "base", "third")
    assert "have a part of their weights in common, as from one beginning or as a merge and its parent" in text


def test_parents_of_a_merge_are_no_merges(models):
    for each in ("one", "two", "base"):
        assert (
            merge_of(
                models[each],
                [other for key, other in models.items() if key in {"base", "one", "two", "merge"} - {each}],
            )
            is None
        )


def test_a_rotated_copy_has_the_spectra_and_nothing_else(models):
    found, texts = told(models, "base", "rotated")
    row = found.pairs.iloc[0]
    assert row["relation"] == "rotated or permuted" and row["spectrum"] < 0.05 * row["spectrum_null"]
    assert row["sign_distance"] > 0.9 and abs(row["cosine"]) < 0.1
    assert texts[-1].startswith("rotated and base have the same spectra at other places: one is rotated or permuted: ")


def test_another_architecture_is_apart(models):
    found, texts = told(models, "base", "narrow", "one")
    assert relations(found)["base", "narrow"] == "another architecture"
    assert "narrow and base have no matrix of one place and shape: another architecture." in texts
    assert found.distances[0, 1] == 1


def test_the_figure_shows_the_distances_in_the_order_of_the_tree(models):
    found, _ = told(models, "one", "twin", "base")
    figure = lineage_map(found.names, found.distances, found.tree, 0.5)
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == [found.names[leaf] for leaf in found.order]
    shown = np.asarray(figure.axes[1].images[0].get_array())
    assert np.allclose(shown, found.distances[np.ix_(found.order, found.order)])


def test_models_of_a_lineage_are_checked():
    config = configured({"models": {"a": {"source": "x"}, "b": {"source": "x"}}, "lineage": {"models": "all"}}, "file")
    assert related_models(config) == ["a", "b"]
    with pytest.raises(AtlasError, match="unknown model 'c'"):
        related_models({**config, "lineage": {"models": ["a", "c"]}})


@pytest.mark.parametrize("product", ["weight_sketch", "lineage", "lineage.merges", "lineage.told"])
def test_every_column_of_the_lineage_is_registered(models, product):
    found, _ = told(models, "base", "one", "two", "merge")
    table = metrics.of(product)
    contents = {
        "lineage": found.pairs,
        "lineage.merges": found.merges,
        "lineage.told": told_table(found.told),
        "weight_sketch": pd.DataFrame(columns=COLUMNS),
    }
    assert set(contents[product].columns) == table.columns
