"""Edits of live weights: the right element on every layout, and every bit restored."""

from dataclasses import replace

import pytest
import torch
from live_models import layouts, plant, tiny

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.edits import edited, scale, set_to, value_at, zero
from weight_atlas.live.matrices import matrix_at, place_of, values_at

IDS = torch.tensor([[1, 50, 60, 70, 80, 90]])


def bits(model):
    return {name: parameter.clone() for name, parameter in model.named_parameters()}


def same(before, model):
    return all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("layout", layouts())
def test_an_edit_reaches_one_logical_element_and_is_undone(layout):
    model = tiny(layout)
    live = anatomy(model)
    assert [projection.layer for projection in live.projections] == sorted(p.layer for p in live.projections)
    before = bits(model)
    for projection in live.projections:
        expert = 1 if projection.stacked else None
        rows, cols = projection.shape
        assert rows == 64
        place = projection.coordinate(3, cols - 2, expert)
        with edited(live, [set_to(place, 2.5)]):
            assert value_at(live, place) == 2.5
            changed = {name: before[name] != now for name, now in model.named_parameters()}
            assert sum(int(mask.sum()) for mask in changed.values()) == 1
            assert changed[projection.parameter_name].any()
    assert same(before, model)


@pytest.mark.parametrize("layout", layouts())
def test_a_row_is_an_output_channel_and_a_column_a_neuron(layout):
    """Zero a weight that writes a spike: its row of the layer's output moves, and no other."""
    model = tiny(layout)
    live = anatomy(model)
    place = plant(live, 1, 9, 21)
    outputs = []
    handle = live.layers[1].register_forward_hook(
        lambda module, inputs, output: outputs.append(output[0] if isinstance(output, tuple) else output)
    )
    model(IDS)
    with edited(live, [zero(place)]):
        model(IDS)
    handle.remove()
    difference = (outputs[0] - outputs[1]).float().reshape(-1, 64).abs().amax(0)
    assert difference.argmax() == 9
    if layout not in ("gemma2", "olmo2"):
        # Where a norm follows the MLP, the other rows move as well.
        assert difference[9] > 1e5 * difference.sort().values[-2]


def test_gate_and_up_are_the_halves_that_make_the_neuron():
    for layout, expert in (("llama", None), ("phi3", None), ("mixtral", 1), ("gpt_oss", 1), ("dbrx", 1)):
        live = anatomy(tiny(layout))
        for role in ("W_gate", "W_up"):
            assert matrix_at(live, Coordinate(2, None, None, expert, role)).shape == (96, 64)
    live = anatomy(tiny("phi3"))
    fused = live.layers[0].mlp.gate_up_proj.weight
    assert matrix_at(live, Coordinate(0, None, None, role="W_up")).data_ptr() == fused[96:].data_ptr()
    live = anatomy(tiny("gpt_oss"))
    fused = live.layers[0].mlp.experts.gate_up_proj
    assert torch.equal(matrix_at(live, Coordinate(0, None, None, 3, role="W_gate")), fused[3][:, 0::2].T)


def test_operations_nest_and_compose():
    live = anatomy(tiny("llama"))
    place, before = Coordinate(1, 2, 3), value_at(anatomy(tiny("llama")), Coordinate(1, 2, 3))
    with edited(live, [scale(place, 2.0)]):
        assert value_at(live, place) == 2 * before
        with edited(live, [set_to(place, 5.0), scale(place, 0.5)]):
            assert value_at(live, place) == 2.5
        assert value_at(live, place) == 2 * before
    assert value_at(live, place) == before


def test_whole_rows_and_columns():
    live = anatomy(tiny("gpt2"))
    with edited(live, [zero(Coordinate(1, None, 5)), zero(Coordinate(1, 7, None))]):
        matrix = matrix_at(live, Coordinate(1, 0, 0))
        assert not matrix[:, 5].any()
        assert not matrix[7].any()
        assert (matrix == 0).sum() == 64 + 96 - 1


def test_restored_after_an_exception_and_after_nan():
    model = tiny("llama").bfloat16()
    model.model.layers[1].mlp.down_proj.weight[2, 3] = -0.0
    live, before = anatomy(model), bits(model)
    with (
        pytest.raises(ZeroDivisionError),
        edited(live, [set_to(Coordinate(1, 2, 3), float("nan")), zero(Coordinate(2, 0, 0))]),
    ):
        raise ZeroDivisionError
    stored, now = before["model.layers.1.mlp.down_proj.weight"], model.model.layers[1].mlp.down_proj.weight
    assert torch.equal(stored.view(torch.int16), now.view(torch.int16))
    assert same(before, model)


def test_a_wrong_coordinate_leaves_the_model_alone():
    model = tiny("qwen2_moe")
    live, before = anatomy(model), bits(model)
    good = Coordinate(1, 0, 0, expert=1)
    for bad in (
        Coordinate(9, 0, 0),
        Coordinate(1, 64, 0, expert=0),
        Coordinate(1, 0, -1, expert=0),
        Coordinate(1, 0, 0, expert=4),
        Coordinate(1, 0, 0, role="W_Q", expert=1),
    ):
        with pytest.raises(AtlasError), edited(live, [zero(good), zero(bad)]):
            raise AssertionError("not reached")
        assert same(before, model)


def test_tied_embeddings_change_together():
    live = anatomy(tiny("qwen2"))
    with edited(live, [set_to(Coordinate(0, 4, 5, role="W_E"), 3.0)]):
        assert value_at(live, Coordinate(0, 4, 5, role="W_U")) == 3.0


def test_quantized_and_absent_projections_say_so():
    model = tiny("llama")
    model.model.layers[1].mlp.down_proj.weight = torch.nn.Parameter(
        torch.zeros(64, 96, dtype=torch.int8), requires_grad=False
    )
    with pytest.raises(AtlasError, match="quantized"):
        anatomy(model)
    import transformers

    settings = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}
    mamba = transformers.AutoModelForCausalLM.from_config(transformers.MambaConfig(**settings))
    with pytest.raises(AtlasError, match="no MLP output projection"):
        anatomy(mamba)


def test_weights_that_are_not_in_memory_are_refused():
    model = tiny("llama")
    down = model.model.layers[1].mlp.down_proj
    down.weight = torch.nn.Parameter(torch.empty(64, 96, device="meta"), requires_grad=False)
    with pytest.raises(AtlasError, match="offloaded"), edited(anatomy(model), [zero(Coordinate(1, 0, 0))]):
        pass


def test_a_value_beyond_the_range_of_its_type_is_refused():
    live = anatomy(tiny("llama").half())
    place, before = Coordinate(1, 2, 3), bits(live.model)
    for edit in (set_to(place, 1e6), scale(place, 1e9)):
        with pytest.raises(AtlasError, match="leaves the range"), edited(live, [edit]):
            raise AssertionError("not reached")
    assert same(before, live.model)
    with edited(live, [set_to(place, float("inf"))]):
        assert value_at(live, place) == float("inf")


@pytest.mark.parametrize("layout", layouts("gptj", "bloom", "codegen"))
def test_a_weight_of_any_role_is_set_where_it_is_read(layout):
    """A single weight, a row, a column and all of every part of a layer and of what lies outside of the layers."""
    live = anatomy(tiny(layout))
    seen = set()
    for part in live.parts:
        place = place_of(live, part)
        kind = place.role, place.component
        if part.layer not in (None, 1) or part.stack == "other" or kind in seen:
            continue
        seen.add(kind)
        before = values_at(live, place).clone()
        rows, cols = before.shape
        row, col = rows * 2 // 3, cols // 3
        for index in ((row, col), (row, None), (None, col), (None, None)):
            chosen = tuple(slice(None) if each is None else each for each in index)
            with edited(live, [set_to(replace(place, row=index[0], col=index[1]), 7.0)]):
                changed = values_at(live, place).clone()
            wanted = before.clone()
            wanted[chosen] = 7.0
            assert torch.equal(changed, wanted), (part.name, index)
            assert torch.equal(values_at(live, place), before)
        with pytest.raises(AtlasError, match=f"row {rows} of"):
            value_at(live, replace(place, row=rows, col=0))
    assert {"W_O", "norm"} <= {role for role, _ in seen}
