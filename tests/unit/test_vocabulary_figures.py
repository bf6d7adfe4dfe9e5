"""Figures and summary of vocabulary and cascade: they draw what they are given, and say so when it is nothing."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from weight_atlas.figures.style import save_figure
from weight_atlas.figures.vocabulary import neuron_card, neuron_map, neurons_overview, printable
from weight_atlas.figures.vocabulary_cascade import cascade_by_layer, cascade_of_tokens, cascades
from weight_atlas.figures.vocabulary_interventions import deltas_of, signed, tokens_moved, weights_overview
from weight_atlas.figures.vocabulary_summary import models_overview
from weight_atlas.vocabulary.cascade import VALUES
from weight_atlas.vocabulary.labels import LABELS, count_labels
from weight_atlas.vocabulary.summary import summarise_classes, summarise_models


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts] + [a.get_title() for a in figure.axes]


def title_fits(figure):
    """Whether the title lies within the picture, and which text it has."""
    figure.draw_without_rendering()
    box, whole = figure._suptitle.get_window_extent(), figure.bbox
    return figure.get_suptitle() if whole.x0 <= box.x0 and box.x1 <= whole.x1 else None


LONG = "organisation-model-13B-chat-v0.3"


def test_tokens_are_printable():
    assert printable(" the") == "␣the" and printable("a\nb") == "a⏎b"
    assert printable("\x07") == "\\u0007" and printable("漢") == "\\u6f22"
    assert printable("$x$") == r"\$x\$" and len(printable("x" * 50, 10)) == 10


def test_neuron_card(tmp_path):
    up = pd.DataFrame({"str": [" a", "漢", "$"], "effect": [3.0, 2.0, 1.0]})
    figure = neuron_card(up, up.assign(effect=-up.effect), np.random.default_rng(0).standard_normal(500), "a", "b")
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    assert widths == [3.0, 2.0, 1.0]
    save_figure(tmp_path / "a.png", figure)
    everywhere = neuron_card(up, up, np.ones(5), "constant").axes[2]
    assert [list(line.get_xdata()) for line in everywhere.lines] == [[1.0, 1.0]] and not everywhere.patches
    assert "reaches no token" in texts(neuron_card(up[:0], up[:0], np.empty(0), "none"))[0]


def neurons(n=400):
    random = np.random.default_rng(0)
    kurt = 3 + random.gamma(1.0, 3.0, n)
    labels = np.where(kurt > 10, "prediction", "unclear")
    return pd.DataFrame({"layer": np.arange(n) % 5, "kurt": kurt, "label": labels})


def test_neuron_map(tmp_path):
    table = neurons()
    figure = neuron_map(table, 10.0, "model")
    assert figure.axes[0].collections[0].get_array().sum() == len(table)
    counts = count_labels(table)
    assert counts.neurons.sum() == 400 and counts.columns.tolist() == ["layer", "neurons", *LABELS]
    unclear = neuron_map(table.assign(label="unclear"), 10.0)
    assert "labels; the other 400 of 400 are unclear" in texts(unclear)
    assert "No neuron" in texts(neuron_map(table.assign(kurt=np.nan), 10.0))[0]


def test_neurons_overview():
    cards = pd.DataFrame(
        {"layer": [0, 1], "expert": [None, 3], "neuron": [5, 6], "label": ["unclear", "entropy"], "kurt": [3.1, 40.0],
         "selected_by": ["top kurtosis", "super weight, top kurtosis"], "top_tokens_up": [["a | b", "\r"], []]}
    )  # fmt: skip
    labels = [label.get_text() for label in neurons_overview(cards).axes[0].get_yticklabels()]
    assert labels == ["L1 E3 N6 ★", "L0 N5"]
    assert "No neuron" in texts(neurons_overview(cards[:0]))[0]


def averages(targets=2):
    rows = [
        (t, layer, position) for t in range(targets) for layer in range(3) for position in ("all", "first", "others")
    ]
    table = pd.DataFrame(rows, columns=["target", "layer", "position"])
    table[list(VALUES)] = np.random.default_rng(0).random((len(rows), len(VALUES)))
    return table.assign(delta_entropy=0.1, delta_margin=-0.1)


def test_cascades():
    table = averages()
    assert len(cascades(table, ["a", "b"]).axes[0].lines) == 2
    figure = cascade_by_layer(table[table.target == 0], "a")
    assert [len(axis.lines) for axis in figure.axes] == [4, 4, 3, 3, 6]
    # All positions are drawn below the others, broadly enough to be seen behind a line of the same values.
    for axis in figure.axes[:4]:
        every, *others = [line for line in axis.lines if len(line.get_xdata()) == 3]
        assert every.get_linewidth() > 3 * max(line.get_linewidth() for line in others)
        assert every.get_zorder() < min(line.get_zorder() for line in others)
    title = title_fits(cascade_by_layer(table, f"{LONG}, layer 12 expert 113 [2533, 17890] removed"))
    assert title.startswith(f"{LONG}, layer 12 expert 113 [2533, 17890] removed")
    assert title_fits(cascades(averages(30), [str(n) for n in range(30)], LONG)).endswith("(first 12 of 30)")
    zero = table.assign(kl=0.0)
    assert cascades(zero, ["a", "b"]).axes[0].get_yscale() == "linear"
    assert cascades(table, ["a", "b"]).axes[0].get_yscale() == "log"
    some = table.assign(kl=table.kl * (table.layer > 0))
    assert cascades(some, ["a", "b"]).axes[0].get_yscale() == "symlog"
    for draw in (lambda t: cascades(t, []), lambda t: cascade_by_layer(t, ""), lambda t: cascade_of_tokens(t, "")):
        assert "Nothing to follow" in texts(draw(table[:0]))[0]


def test_cascade_of_tokens():
    table = pd.DataFrame(
        [(layer, i, f" t{i}") for layer in (2, 3) for i in range(4)], columns=["layer", "index", "token"]
    )
    table["kl"], table["delta_entropy"] = np.arange(8.0), 0.0
    image = cascade_of_tokens(table, "a").axes[0].images[0].get_array()
    assert image.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def deltas(**changes):
    table = pd.DataFrame(
        {"kind": ["edit", "no_op", "random_coord"], "metric": "loss", "baseline": 3.0, "delta": [2.0, 0.0, -0.01],
         "low": [1.5, None, -0.1], "high": [2.5, None, 0.1], "draws": [None, None, 50], "tokens": [None, None, 639],
         "edit_there": [None, None, 2.25]}
    )  # fmt: skip
    return table.assign(**changes)


def test_deltas():
    figure = deltas_of(deltas(), "a")
    assert {"+2", "-0.01", "0"} <= set(texts(figure))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["the weight", "weights nearest in size\n50 draws, 639 tokens", "nothing"]
    points = [line.get_xdata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert sorted(points) == [-0.01, 0.0, 2.0, 2.25]
    assert "Nothing" in texts(deltas_of(deltas()[:0], "a"))[0]
    assert signed(0.1) == "+0.1" and signed(0.1149) == "+0.115" and signed(-1e-5) == "-1e-05" and signed(0.0) == "0"


@pytest.mark.parametrize("factor", [1.0, 1e-2, 1e-4, 1e-9, 0.0])
def test_what_random_weights_do_is_seen_beside_a_large_change(factor):
    """The range of the draws is a hundredth of the axis or more, up to five orders of magnitude below."""
    table = deltas(low=[1.5, None, -0.1 * factor], high=[2.5, None, 0.1 * factor], delta=[2.0, 0.0, -0.01 * factor])
    axis = deltas_of(table, "a").axes[0]
    low, high = (axis.transData.transform((sign * 0.1 * factor, 0))[0] for sign in (-1, 1))
    if factor >= 1e-4:
        assert high - low > 0.01 * axis.bbox.width
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert "0" in labels and len(labels) == len(set(labels)) <= 5


def test_ticks_do_not_overlap():
    random = np.random.default_rng(0)
    for _ in range(20):
        sizes = 10 ** random.uniform(-7, 1, 3)
        table = deltas(delta=sizes * random.choice([-1, 1], 3), low=np.nan, high=np.nan, edit_there=np.nan)
        figure = deltas_of(table, "a")
        figure.draw_without_rendering()
        boxes = sorted(
            (label.get_window_extent() for label in figure.axes[0].get_xticklabels()), key=lambda box: box.x0
        )
        assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(boxes))
        plt.close(figure)


def test_interventions():
    weights = pd.DataFrame({"layer": [1], "expert": [None], "row": [7], "col": [11], "delta_loss": [0.0]})
    (axis,) = weights_overview(weights.assign(null_ratio_loss=np.nan, null_delta_loss=0.0)).axes
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines] == [(0.0, 0)]  # and no draws to compare
    assert [label.get_text() for label in axis.get_yticklabels()] == ["L1 [7, 11]"] and axis.get_xscale() == "linear"
    assert "none was detected" in texts(weights_overview(weights[:0]))[0]
    # What the farthest draw did follows from the change on the same tokens.
    two = weights.assign(delta_loss=8.0, null_delta_loss=-6.0, null_ratio_loss=3.0, null_shift_delta_loss=-6.0)
    figure = weights_overview(two.assign(null_shift_ratio_loss=2.0), LONG)
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [8.0, 2.0, 3.0]
    assert title_fits(figure).startswith(LONG)
    many = weights_overview(pd.concat([two] * 25), LONG)
    assert title_fits(many).endswith("(20 of 25)")
    moved = pd.DataFrame({"id": range(50), "text": "x", "special": False, "direct_effect": np.linspace(-1, 1, 50)})
    moved["log_odds_change"] = moved["probability_change"] = -moved.direct_effect
    figure = tokens_moved(moved, "a")
    assert len(figure.axes) == 4 and all(axis.get_xlabel() for axis in figure.axes)
    assert figure.get_suptitle().startswith("a: tokens that")
    assert "No token" in texts(tokens_moved(moved.assign(log_odds_change=0.0), "a"))[0]


def test_summary():
    labels = {"a": count_labels(neurons()), "b": count_labels(neurons(100))}
    record = {"class": "digits", "score": 0.2, "mean_difference": 1.0, "p_adjusted": 0.01}
    cards = {"a": [{"enrichment": [record]}, {"enrichment": [{**record, "p_adjusted": 0.5, "score": 0.0}]}]}
    weights = pd.DataFrame({"layer": [1, 2], "row": [7, 8], "col": [11, 12], "delta_loss": [0.1, -3.0]})
    weights = weights.assign(null_ratio_loss=[2.0, 30.0], null_shift_ratio_loss=[1.0, 5.0])
    models, classes = summarise_models(labels, cards, {"a": weights, "c": weights[:0]}), summarise_classes(cards, 0.05)
    assert models.model.tolist() == ["a", "b", "c"]
    assert models.strongest[0] == "layer 2 [8, 12]" and models.strongest_delta_loss[0] == -3.0
    assert (models.strongest_null_ratio[0], models.strongest_null_shift_ratio[0]) == (30.0, 5.0)
    assert models.neurons[:2].tolist() == [400, 100] and models.weights_intervened[2] == 0
    assert classes.to_dict("records") == [
        {"model": "a", "class": "digits", "tested": 2, "enriched": 1, "share": 0.5, "mean_score": 0.1, "towards": 1}
    ]
    assert len(models_overview(models, classes).axes) == 4
    assert "-3" in texts(models_overview(models, classes))
    alone = models_overview(models[models.model == "b"].reset_index(drop=True), classes[:0])
    assert [label.get_text() for label in alone.axes[0].get_yticklabels()] == ["b"]
    assert "no neuron was described" in texts(alone)
    assert "No model" in texts(models_overview(summarise_models({}, {}, {}), classes[:0]))[0]


@pytest.mark.parametrize("n", [1, 3, 15])
def test_many_models_side_by_side(n):
    random = np.random.default_rng(n)
    models = pd.DataFrame({"model": [f"{LONG}-{i}" for i in range(n)], "prediction_share": random.random(n)})
    models["strongest_delta_loss"] = 10 ** random.uniform(-4, 1, n)
    rows = [(model, name, 0.5) for model in models.model for name in ("digits", "years")]
    figure = models_overview(models, pd.DataFrame(rows, columns=["model", "class", "share"]))
    figure.draw_without_rendering()
    labels, classes, strongest, _ = figure.axes
    assert strongest.get_xscale() == "symlog"
    assert [text.get_text() for text in strongest.texts] == [signed(value) for value in models.strongest_delta_loss]
    assert labels.get_ylim() == classes.get_ylim() == strongest.get_ylim()
    legend, axis = labels.get_legend().get_window_extent(), labels.xaxis.label.get_window_extent()
    assert 0 < axis.y0 - legend.y1 < 30
