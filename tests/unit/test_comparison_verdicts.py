"""The first sentence of a comparison, where one that is at hand would be false."""

import pytest
import torch
from compared_models import DOWN, UP, name, said, tables, weights, write

LAYERS = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write(tmp_path_factory.mktemp("base") / "model", weights(layers=LAYERS), num_hidden_layers=LAYERS)


@pytest.fixture
def against(base, tmp_path):
    """against(edit): the base compared with what edit(tensors) makes of its tensors."""

    def compared(edit, layers=LAYERS):
        tensors = {key: value.clone() for key, value in edit(weights(layers=LAYERS)).items()}
        return tables(base, write(tmp_path / "other", tensors, num_hidden_layers=layers))

    return compared


def every(function):
    return lambda tensors: {key: function(value) for key, value in tensors.items()}


def placed(origins):
    """The layers of these numbers, in this order."""
    return lambda tensors: (
        {key: value for key, value in tensors.items() if ".layers." not in key}
        | {
            key.replace(f".layers.{origin}.", f".layers.{place}."): value
            for place, origin in enumerate(origins)
            for key, value in tensors.items()
            if f".layers.{origin}." in key
        }
    )


@pytest.mark.parametrize(
    ("edit", "word", "begins"),
    [
        (every(lambda value: value.float() * 1.001), "multiplied", "other is base times 1.001: 30 of 30 tensors"),
        (every(lambda value: (value.float() * 1.25).bfloat16()), "multiplied", "other is base times 1.25: "),
        (every(lambda value: -value), "multiplied", "other is base times -1: "),
        (
            every(lambda value: value * 0),
            "empty",
            "other has no values in most tensors of base: of 30, 30 are all zero",
        ),
        (
            every(lambda value: value * float("nan")),
            "empty",
            "other has no values in most tensors of base: of 30, 0 are",
        ),
    ],
)
def test_what_became_of_a_whole_model(against, edit, word, begins):
    made = against(edit)
    assert made.summary["relation"] == word and said(made)[0].startswith(begins)
    assert not [text for text in said(made) if "nan" in text or "training" in text]


@pytest.mark.parametrize(
    ("origins", "told"),
    [
        ([2, 1, 0], "0 is what is 2, 2 is what is 0"),
        ([1, 2], "0 is what is 1, 1 is what is 2"),
        ([0, 1, 1, 2], "2 is what is 1, 3 is what is 2"),
    ],
)
def test_layers_at_other_places_are_not_unrelated(against, origins, told):
    made = against(placed(origins), layers=len(origins))
    assert made.summary["relation"] == "rearranged"
    assert said(made)[0].startswith(f"other has layers of base at other places: {told}. ")


def test_fewer_layers_are_not_the_whole_model(against):
    made = against(placed([0, 1]), layers=2)
    assert said(made)[0] == (
        "The 21 tensors that other and base have in common are the same bit for bit; 9 tensors have no counterpart."
    )
    assert "9 tensors are in a only, of layer 2: " in said(made)[1]


def test_values_that_were_not_finite_and_tensors_that_are_zero(base, against, tmp_path):
    made = against(lambda tensors: {**tensors, name(0, UP): tensors[name(0, UP)] * 0})
    assert said(made)[1].startswith(f"{name(0, UP)} is all zero; a has values up to 0.")
    spoiled = {
        key: value * (float("nan") if key == name(0, UP) else 1) for key, value in weights(layers=LAYERS).items()
    }
    spoiled = write(tmp_path / "spoiled", spoiled, num_hidden_layers=LAYERS)
    made = tables(spoiled, base)
    assert said(made)[1:] == [
        f"NaN or infinite values of a that b has not are in 1 of 30 tensors: {name(0, UP)} (6,144).",
        f"{name(0, UP)} differs: 100.00% of its values, none of them finite in a.",
    ]
    assert "of the finite values" in said(made)[0]


def test_several_tensors_times_numbers_of_their_own(against):
    factors = {name(layer, part): 1.5 + layer / 4 for layer in range(LAYERS) for part in (UP, DOWN)}
    made = against(lambda tensors: {key: value * factors.get(key, 1) for key, value in tensors.items()})
    (text,) = [text for text in said(made) if "times a number" in text]
    assert text == (
        f"6 of 6 changed tensors are those of a times a number: {name(0, DOWN)} (times 1.5), {name(0, UP)} (times "
        f"1.5), {name(1, DOWN)} (times 1.75) and 3 more."
    )


def test_an_update_of_a_few_matrices_in_another_type_is_no_rounding(against):
    """Of a merged LoRA in a copy of another type, few matrices have other signs, and their own angles tell it."""
    random = torch.Generator().manual_seed(3)
    tuned = {
        key: (value.float() + 0.02 * torch.randn(value.shape, generator=random) * (".q_" in key)).half()
        for key, value in weights(layers=LAYERS).items()
    }
    rounded = every(lambda value: value.to(torch.float8_e4m3fn).half())
    assert against(rounded).summary["relation"] == "rounded"
    assert against(lambda tensors: tuned).summary["relation"] == "derived"


def test_neurons_in_another_order_are_no_training(against):
    order = torch.randperm(96, generator=torch.Generator().manual_seed(1))

    def shuffled(tensors):
        for layer in range(LAYERS):
            for part in (UP, "mlp.gate_proj.weight"):
                tensors[name(layer, part)] = tensors[name(layer, part)][order]
            tensors[name(layer, DOWN)] = tensors[name(layer, DOWN)][:, order]
        return tensors

    made = against(shuffled)
    assert made.summary["relation"] == "rearranged"
    first, second = said(made)
    assert first.startswith("other is base with rows or columns of 9 of 30 tensors in another order, as of neurons")
    assert second.startswith(
        "9 of 30 tensors have the rows or columns of a in another order, bit for bit: "
        f"{name(0, DOWN)} (columns), {name(0, 'mlp.gate_proj.weight')} (rows), {name(0, UP)} (rows) and 6 more."
    )
    assert made.table.set_index("id_a")["reordered"][name(1, DOWN)] == "columns"
    signs = against(lambda tensors: {**shuffled(tensors), name(0, UP): -tensors[name(0, UP)]})
    assert signs.table.set_index("id_a")["reordered"][name(0, UP)] == ""  # of the same norm, and nothing else
