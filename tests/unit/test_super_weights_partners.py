"""What a weight works through: gains, the rest of its neuron, the other side of its head, in several layouts."""

import pytest
from live_models import D, tiny

from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.edits import value_at
from weight_atlas.super_weights.partners import partners


def places(live, *place, **named):
    return {str(each.place) for each in partners(live, Coordinate(*place, **named))}


def test_of_a_neuron():
    live = anatomy(tiny("llama"))
    mlp = live.layers[1].mlp
    mlp.gate_proj.weight.data[21, 5] = mlp.up_proj.weight.data[21, 6] = mlp.down_proj.weight.data[9, 21] = -3.0
    assert places(live, 1, 9, 21) == {"layer 1 W_gate [21, 5]", "layer 1 W_up [21, 6]"}
    norms = {f"layer 1 norm {name} [5]" for name in ("input_layernorm", "post_attention_layernorm")}
    found = places(live, 1, 21, 5, role="W_gate")
    assert found == {"layer 1 mlp.down_proj [9, 21]", "layer 1 W_up [21, 6]", *norms}


def test_of_a_neuron_with_biases_that_is_stored_transposed():
    live = anatomy(tiny("gpt2"))
    live.layers[2].mlp.c_fc.weight.data[5, 21] = 3.0
    assert places(live, 2, 9, 21) == {"layer 2 W_up [21, 5]", "layer 2 W_up.bias mlp.c_fc [21]"}


def test_of_an_expert():
    live = anatomy(tiny("mixtral"))
    live.layers[1].mlp.experts.gate_up_proj.data[2, 21, 5] = 3.0
    place = live.projections[1].coordinate(9, 21, 2)
    found = [each.place for each in partners(live, place)]
    assert {(each.role, each.expert, each.row) for each in found} == {("W_gate", 2, 21), ("W_up", 2, 21)}
    assert next(each.col for each in found if each.role == "W_gate") == 5


@pytest.mark.parametrize(("layout", "own", "other"), [("llama", 53, 21), ("gpt_neox", 53, 53)])
def test_of_heads(layout, own, other):
    """Four heads of 16; of llama two of keys and values: query heads 2 and 3 share the second."""
    live = anatomy(tiny(layout))
    (path,) = {each.component for each in live.parts if each.role == "W_O"}
    output = next(each for each in live.parts if each.role == "W_O" and each.layer == 1)
    value = next(each for each in live.parts if each.role == "W_V" and each.layer == 1)
    value.at(other, 7).fill_(3.0)
    output.at(9, own).fill_(3.0)
    named = [each.place for each in partners(live, Coordinate(1, 9, own, role="W_O"))]
    weights = [each for each in named if each.role == "W_V"]
    assert path == "" and [(each.row, each.col) for each in weights] == [(other, 7)]
    back = [each.place for each in partners(live, weights[0])]
    assert [(each.row, each.col) for each in back if each.role == "W_O"] == [(9, own)]
    assert {each.row for each in back if each.role == "norm"} == {7}
    assert all(abs(value_at(live, each)) > 0 for each in back if each.role != "norm")


def test_of_an_unembedding():
    assert places(anatomy(tiny("llama")), -1, 3, D - 1, role="W_U") == {f"norm model.norm [{D - 1}]"}
