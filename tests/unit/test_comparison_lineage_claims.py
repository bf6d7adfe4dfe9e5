"""What lineage says of models where it would be easy to say too much: lines, pruned, rounded and rearranged copies."""

import numpy as np
import pytest
import torch
from compared_models import UP, name, weights
from test_comparison_lineage import Models, mixed, relations, told, tuned

from weight_atlas.comparison.kinship import (
    COPY_PRUNED,
    COPY_ROUNDED,
    COPY_SCALED,
    EMPTY,
    SAME,
    kinship,
)

LAYERS = 4
UNKNOWN = "come from one another or from one beginning (which was first, the weights do not tell)"


def rearranged(tensors, origins):
    """The model whose layers are those of these numbers."""
    made = {key: value for key, value in tensors.items() if ".layers." not in key}
    for place, origin in enumerate(origins):
        for key, value in tensors.items():
            if f".layers.{origin}." in key:
                made[key.replace(f".layers.{origin}.", f".layers.{place}.")] = value.clone()
    return made


def multiplied(tensors, factor):
    return {key: value.float() * factor for key, value in tensors.items()}


def per_row(value):
    step = value.float().abs().amax(-1, keepdim=True) / 7
    return ((value.float() / step).round() * step).bfloat16()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = Models(tmp_path_factory.mktemp("models"))
    base = weights(layers=LAYERS)
    one, two = tuned(1, base, 0.01), tuned(2, base, 0.01)
    matrices = {key for key, value in base.items() if value.ndim > 1}
    chosen = {
        "base": base,
        "one": one,
        "two": two,
        "after": tuned(3, one, 0.01),
        "twin": weights(seed=9, layers=LAYERS),
        "pruned": {
            key: torch.where(value.abs() >= value.float().abs().median(), value, 0) if key in matrices else value
            for key, value in base.items()
        },
        "int4": {key: per_row(value) if key in matrices else value for key, value in base.items()},
        "times": {key: value.float() * 1.001 for key, value in base.items()},
        "negative": {key: -value for key, value in base.items()},
        "nan": {key: value * (float("nan") if key == name(0, UP) else 1) for key, value in base.items()},
        "zero": {key: value * 0 for key, value in base.items()},
        "pieces": {key: (one if ".2." in key or ".3." in key else two)[key] for key in base},
        # Training that moves norms by more than what it adds: without weight decay, and with much.
        **{f"{called}_grown": multiplied(tensors, 1.0005) for called, tensors in (("one", one), ("two", two))},
        **{f"{called}_decayed": multiplied(tensors, 0.99) for called, tensors in (("one", one), ("two", two))},
    }
    chosen["after_grown"] = multiplied(tuned(3, chosen["one_grown"], 0.01), 1.0005)
    chosen["after_decayed"] = multiplied(tuned(3, chosen["one_decayed"], 0.01), 0.99)
    # Of one and a model that is not there.
    chosen["merge"] = mixed([(0.5, one), (0.5, tuned(4, base, 0.01))])
    for called, tensors in chosen.items():
        made.profile(called, tensors, num_hidden_layers=LAYERS)
    for called, origins in {
        "back": [3, 2, 1, 0],
        "without": [1, 2, 3],
        "short": [0, 1, 2],
        "deep": [0, 1, 1, 2, 2, 3],
    }.items():
        made.profile(called, rearranged(base, origins), num_hidden_layers=len(origins))
    return made.made


@pytest.mark.parametrize(
    "names",
    [
        ("base", "one", "after"),
        ("after", "base", "one"),
        ("one", "after", "base"),
        ("base", "one_grown", "after_grown"),
        ("base", "one_decayed", "after_decayed"),
        ("base", "one", "merge"),
    ],
)
def test_of_a_line_the_middle_is_no_beginning_of_both(models, names):
    _, texts = told(models, *names)
    assert len(texts) == 2 and all(UNKNOWN in text for text in texts)


def test_the_growth_tells_what_was_added(models):
    pair = kinship(models["base"], models["one"])
    assert pair.growth == pytest.approx(1, abs=3 * pair.growth_error) and pair.growth_error < 0.2
    back = kinship(models["one"], models["base"])
    assert back.growth == pytest.approx(-1, abs=3 * pair.growth_error)
    truth = [np.concatenate([value.double().numpy().ravel() for value in tensors.values() if value.ndim > 1])
             for tensors in (weights(layers=LAYERS), tuned(1, weights(layers=LAYERS), 0.01))]  # fmt: skip
    exact = (truth[1] @ truth[1] - truth[0] @ truth[0]) / ((truth[1] - truth[0]) ** 2).sum()
    assert pair.growth == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("trained", ["", "_grown", "_decayed"])
def test_a_star_has_its_centre(models, trained):
    found, texts = told(models, f"one{trained}", f"two{trained}", "base")
    sign = found.pairs.growth[found.pairs.b == "base"]
    assert (sign > 0).all() == (trained == "_decayed") and (sign < 0).all() == (trained != "_decayed")
    assert [text[: text.index(":")] for text in texts] == [
        f"one{trained} is a fine-tune of base",
        f"two{trained} is a fine-tune of base",
    ]


@pytest.mark.parametrize(
    ("other", "relation", "begins"),
    [
        ("pruned", COPY_PRUNED, "pruned is base pruned: "),
        ("int4", COPY_ROUNDED, "int4 and base hold the same weights, one of them rounded: "),
        ("times", COPY_SCALED, "times is base times 1.001: "),
        ("negative", COPY_SCALED, "negative is base times -1: "),
        ("nan", "one family", f"nan and base {UNKNOWN}: "),
        ("zero", EMPTY, "zero and base have no values in common that could be compared"),
    ],
)
def test_a_copy_is_said_to_be_what_it_is(models, other, relation, begins):
    found, texts = told(models, "base", other)
    assert relations(found) == {("base", other): relation}
    assert texts[0].startswith(begins), texts


@pytest.mark.parametrize("other", ["pruned", "int4"])
def test_a_fine_tune_is_no_copy_of_a_pruned_or_rounded_beginning_and_does_not_come_from_it(models, other):
    for names in (("base", other, "one"), (other, "base", "one"), ("one", other, "base")):
        found, texts = told(models, *names)
        assert "one family" in {relations(found).get((other, "one")), relations(found).get(("one", other))}
        assert not [text for text in texts if f"fine-tune of {other}" in text or ("one and" in text and "hold" in text)]


@pytest.mark.parametrize(
    ("other", "moved", "layers"),
    [
        ("back", 4, "0 is what is 3, 1 is what is 2, 2 is what is 1, 3 is what is 0"),
        ("without", 3, "0 is what is 1, 1 is what is 2, 2 is what is 3"),
        ("deep", 4, "2 is what is 1, 3 is what is 2, 4 is what is 2, 5 is what is 3"),
        ("short", 0, ""),
    ],
)
def test_layers_at_other_places_are_compared_with_those_they_come_from(models, other, moved, layers):
    found, texts = told(models, "base", other, "twin")
    row = found.pairs.iloc[0]
    assert (row["relation"], row["moved"], row["moved_layers"]) == (SAME, moved, layers)
    assert abs(row["sign_distance_null"] - 1) < 0.05 and row["sign_distance"] == 0
    assert texts[0].startswith(
        f"{other} and base hold the same weights in the {row['tensors']} matrices that both have"
    )
    assert found.families == [["base", other], ["twin"]]
    assert set(relations(found).values()) == {SAME, "unrelated"}


def test_a_model_of_whole_layers_of_others_is_told_by_them(models):
    for names in (("one", "two", "pieces"), ("base", "pieces", "two", "one")):
        _, texts = told(models, *names)
        (text,) = [text for text in texts if "Every matrix of" in text]
        assert text.startswith("Every matrix of pieces is one of 2 others: 16 of two and 14 of one, ")
        assert not any("of pieces:" in text for text in texts)
