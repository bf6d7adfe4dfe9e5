"""First-order effects against brute force, and whether planted weights come first wherever they lie."""

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import LAYERS, VOCABULARY, drawn, own_text, plant, tiny, word_tokenizer
from test_live_gradients import plain, windows

from weight_atlas.figures import weight_attribution as figures
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.windows import drawn_over
from weight_atlas.settings.super_weights import WeightAttribution
from weight_atlas.super_weights.weight_attribution import COLUMNS, attribute, attributed, summary

CHANNEL, NEURON = 9, 21


def elements(found) -> pd.DataFrame:
    return found.table[found.table.kind == "element"].reset_index(drop=True)


@pytest.mark.parametrize("layout", ["llama", "gpt2", "phi3", "mixtral"])
def test_effects_are_the_products_of_weights_and_gradients(layout):
    model = tiny(layout)
    live = anatomy(model)
    found = attribute(live, windows(), WeightAttribution(top=3))
    gradients = plain(model, windows())[1]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    assert found.searched == sum(each.numel() for each in model.parameters()) and not found.unsearched
    for row in found.table[(found.table.role == "W_down") & (found.table["rank"] == 1)].itertuples():
        parameter = parameters[row.parameter]
        part = next(
            part
            for part in live.parts
            if (part.name, part.expert) == (row.parameter, None if pd.isna(row.expert) else row.expert)
        )
        product = -(parameter.data.double() * gradients[id(parameter)].double())
        product = product[row.expert] if part.stacked else product
        product = (product.T if layout == "gpt2" else product).numpy()
        values = {"element": product, "row": product.sum(1), "column": product.sum(0)}[row.kind]
        largest = np.unravel_index(np.abs(values).argmax(), values.shape)
        assert tuple(each for each in (row.row, row.column) if not pd.isna(each)) == largest
        assert row.effect == pytest.approx(values[largest], rel=1e-4)
        assert row.random_median == pytest.approx(np.median(np.abs(values)), rel=0.2)


@pytest.mark.parametrize("layout", ["llama", "gpt2", "phi3"])
def test_removing_a_small_weight_changes_the_loss_by_its_effect(layout):
    model = tiny(layout, sharp=True).double()
    live = anatomy(model)
    found = elements(attribute(live, windows(), WeightAttribution(top=1)))
    before = plain(model, windows())[0]
    for row in found[found.role.isin(["W_Q", "W_O", "norm"])].head(6).itertuples():
        (part,) = [
            part
            for part in live.parts
            if (part.name, str(part.role), part.component) == (row.parameter, row.role, row.component)
        ]
        at = part.view()[row.row] if pd.isna(row.column) else part.view()[row.row, row.column]
        weight = float(at)
        at.fill_(weight * (1 - 1e-4))
        assert (plain(model, windows())[0] - before) / 1e-4 == pytest.approx(row.effect, rel=0.1, abs=1e-3)
        at.fill_(weight)


def rank_among_layers(found, place) -> int:
    """The rank of a weight's effect among those of all matrices of the layers."""
    ours = elements(found)
    ours = ours[ours.layer.notna() & ours.column.notna()].reset_index(drop=True)
    same = (
        (ours.layer == place.layer) & (ours.role == place.role) & (ours.row == place.row) & (ours.column == place.col)
    )
    return int(same.idxmax()) + 1 if same.any() else 10**6


@pytest.mark.parametrize("layer", [1, LAYERS - 1])
@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_a_weight_that_writes_a_massive_activation_is_among_the_first(layout, layer):
    live = anatomy(tiny(layout, sharp=True))
    place = plant(live, layer, CHANNEL, NEURON)
    found = attribute(live, own_text(live, windows=6, length=16), WeightAttribution(top=4))
    assert rank_among_layers(found, place) <= 5


def test_bfloat16_gives_nearly_the_same_effects():
    found = [elements(attribute(anatomy(model), windows(), WeightAttribution(top=1))) for model in
             (tiny("llama"), tiny("llama").bfloat16())]  # fmt: skip
    exact, rough = (each.set_index(["parameter"]).effect for each in found)
    joined = pd.concat([exact, rough], axis=1, keys=["exact", "rough"])
    assert np.corrcoef(joined.exact, joined.rough)[0, 1] > 0.98 and np.isfinite(joined.rough).all()


def test_a_model_whose_effects_are_zero_and_one_with_unused_weights():
    model = tiny("llama")
    for each in model.parameters():
        each.data.zero_()
    model.model.unused = torch.nn.Linear(2, 2)
    found = attribute(anatomy(model), windows(), WeightAttribution(top=2))
    assert found.backward.nll == pytest.approx(np.log(VOCABULARY)) and not found.table.effect.any()
    assert found.unsearched == {"takes no part in the prediction": ["model.unused.weight", "model.unused.bias"]}
    assert "No weight has an effect" in figures.attribution(found.table).axes[0].texts[0].get_text()


def test_the_same_text_and_seed_give_the_same_table_and_another_seed_other_text():
    live, texts = anatomy(tiny("llama")), ["one two three four five six seven"] * 40 + ["ten nine eight " * 30] * 4
    corpus, tokenizer = pd.DataFrame({"text": texts}), word_tokenizer(bos=True)
    how = WeightAttribution(window=12, tokens=60, top=2)
    one, same = (attributed(live, tokenizer, corpus, how) for _ in range(2))
    pd.testing.assert_frame_equal(one.table, same.table)
    other = attributed(live, tokenizer, corpus, WeightAttribution(window=12, tokens=60, top=2, seed=5))
    assert other.backward.nll != one.backward.nll
    assert list(one.table.columns) == list(COLUMNS) and summary(one)["weights"] == one.searched
    assert one.table.rank_in_model[0] == 1 and (one.first().rank_in_model <= 100).all()
    assert "W_" in drawn(figures.attribution(one.table))


def test_text_is_drawn_from_all_over_a_corpus():
    documents = [f"{number} " * 4000 for number in range(5)] + [f"short {number}" for number in range(20)]
    corpus = pd.DataFrame({"text": documents})
    passages = drawn_over(corpus, seed=0, window=1000 // 4)
    assert sorted(passages.row.unique()) == list(range(25)) and passages.text.str.len().max() <= 1000
    for number, text in enumerate(documents):
        own = passages[passages.row == number].text
        assert sum(map(len, own)) == len(text) and all(passage in text for passage in own)
    assert passages.row.head(12).nunique() > 3
    assert not drawn_over(corpus, seed=1, window=1000 // 4).equals(passages)
    solid = drawn_over(pd.DataFrame({"text": ["x" * 250]}), seed=0, window=100 // 4)
    assert sorted(solid.text.str.len()) == [50, 100, 100]
