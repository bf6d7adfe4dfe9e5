"""Restarting at the edited layer gives the plain forward pass, on every layout."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from live_models import layouts, plant, tiny

from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.batched_scoring import score_edits
from weight_atlas.live.edits import Edit, edited, scale, set_to, zero
from weight_atlas.live.head import logits_at
from weight_atlas.live.layer_restart import chain
from weight_atlas.live.matrices import MLP, place_of
from weight_atlas.live.shortcuts import Shortcuts, pays, shortcuts_of
from weight_atlas.live.windows import fixed_windows

WINDOWS = fixed_windows(np.random.default_rng(0).integers(5, 300, 60), window=20, prefix=[1])
# Their experts' output is by expert, or a tuple.
NOT_ENTERED = ("llama4_text", "dbrx")


@pytest.mark.parametrize("layout", layouts())
@torch.no_grad()
def test_logits_are_the_models_own(layout):
    live = anatomy(tiny(layout))
    ids = WINDOWS.ids[:1]
    own = {name: module.__dict__.get("forward") for name, module in live.model.named_modules()}
    way = chain(live, ids)
    whole = live.model(ids).logits
    positions = torch.tensor([0, 3, 19])
    restarted = way.logits(way.streams[-1], positions)
    assert torch.equal(restarted, logits_at(live.model, ids, positions))
    assert torch.allclose(restarted, whole[:, positions], atol=1e-5)
    for start in (0, 2):
        hidden = way.streams[start]
        for number in range(start, 4):
            hidden = way.layer(number, hidden)
        assert torch.equal(hidden, way.streams[-1])
    assert own == {name: module.__dict__.get("forward") for name, module in live.model.named_modules()}


@pytest.mark.parametrize("layout", layouts())
def test_variants_score_as_full_passes_do(layout):
    live = anatomy(tiny(layout, sharp=True))
    place = plant(live, 1, 9, 21)
    singles = [p.coordinate(3, 5, 0 if p.stacked else None) for p in live.projections]
    last = singles[-1]
    variants = [
        (zero(place),),
        *[(scale(single, 3.0),) for single in singles],
        (zero(place), set_to(last, 0.5)),
        (set_to(singles[0], 1.0), scale(place, 0.5), scale(last, 2.0)),
        (zero(Coordinate(place.layer, None, place.col, place.expert, component=place.component)),),
    ]
    route = shortcuts_of(live, WINDOWS.ids[:1], variants)
    assert route.carried == {p.name for p in live.projections} and not route.shared
    assert layout in NOT_ENTERED or route.added == route.carried
    before = {name: parameter.clone() for name, parameter in live.model.named_parameters()}
    plain = score_edits(live, WINDOWS, variants, Shortcuts(), batch_size=16)
    quick = score_edits(live, WINDOWS, variants, route, batch_size=3)
    assert len(plain) == len(quick) == len(variants) + 1
    for a, b in zip(plain, quick, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist() == WINDOWS.scored.sum(1).tolist()
        assert np.allclose(a.nll, b.nll, rtol=1e-5)
    assert abs(plain[1].nll - plain[0].nll).max() > 1
    assert all(torch.equal(before[name], parameter) for name, parameter in live.model.named_parameters())


@pytest.mark.parametrize("layout", layouts())
def test_variants_of_every_other_matrix_of_a_layer_score_as_full_passes_do(layout):
    live = anatomy(tiny(layout, sharp=True))
    places = {}
    for part in live.parts:
        place = replace(place_of(live, part), row=0, col=0)
        if part.layer in (None, 2) and place.role not in (*MLP, "other"):
            places.setdefault((place.role, place.component, part.layer), place)
    inside = {place for place in places.values() if not place.outside}
    variants = [(scale(replace(place, row=None), -1.0),) for place in places.values()]
    route = shortcuts_of(live, WINDOWS.ids[:1], variants)
    carried = {variant[0].coordinate for variant in variants if route.takes(live, variant)}
    assert {replace(place, row=0) for place in carried} == inside and any("W_" in place.role for place in inside)
    plain = score_edits(live, WINDOWS, variants, Shortcuts(), batch_size=16)
    quick = score_edits(live, WINDOWS, variants, route, batch_size=3)
    for a, b in zip(plain, quick, strict=True):
        assert np.allclose(a.nll, b.nll, rtol=1e-5)


def test_large_differences_are_not_added_but_run():
    """h - (h - small) would leave only rounding: such variants take the layer itself, in every type."""
    live = anatomy(tiny("llama", sharp=True).bfloat16())
    place = plant(live, 1, 9, 21)
    names = {f"model.layers.{layer}.mlp.down_proj" for layer in (1, 2)}
    variants = [(zero(place),), (zero(Coordinate(2, 3, 4)),)]
    route = shortcuts_of(live, WINDOWS.ids[:1], variants)
    assert route == Shortcuts(frozenset(names), frozenset(names))
    quick = score_edits(live, WINDOWS, variants[:1], route, batch_size=16)
    plain = score_edits(live, WINDOWS, variants, Shortcuts(), batch_size=16)
    assert quick[1].nll.tolist() == plain[1].nll.tolist()


def test_a_model_whose_layers_share_more_than_the_stream_is_not_restarted():
    live = anatomy(tiny("llama"))
    ids, variants = WINDOWS.ids[:1], [(zero(Coordinate(layer, 0, 0)),) for layer in range(4)]
    assert shortcuts_of(live, ids, variants).carried == {p.name for p in live.projections}
    first = {}
    live.layers[1].mlp.register_forward_hook(lambda module, inputs, output: first.__setitem__("y", output[:1]))
    live.layers[3].mlp.register_forward_hook(lambda module, inputs, output: output + first["y"])
    # What layer 1 puts out reaches layer 3 by another way, and an edit below it changes what that is.
    route = shortcuts_of(live, ids, variants)
    assert route.carried == {live.projections[layer].name for layer in (2, 3)}
    assert [route.takes(live, variant) for variant in variants] == [False, False, True, True]
    assert not route.takes(live, variants[2] + variants[1])
    counter = iter(range(1000))
    live.layers[2].mlp.register_forward_hook(lambda module, inputs, output: output * (1 + next(counter)))
    assert not shortcuts_of(live, ids, variants[1:2]).carried


def test_keys_and_values_that_later_layers_share_are_noticed():
    """Gemma 4's last layers take keys and values from layers below: what they were called with is stale by then."""
    kinds = ["sliding_attention", "full_attention"] * 2
    live = anatomy(tiny("gemma4_text", sharp=True, num_kv_shared_layers=2, layer_types=kinds, sliding_window=8,
                        hidden_size_per_layer_input=16, vocab_size_per_layer_input=300))  # fmt: skip
    variants = [(set_to(projection.coordinate(3, 5), 20.0),) for projection in live.projections]
    route = shortcuts_of(live, WINDOWS.ids[:1], variants)
    assert live.projections[0].name not in route.carried and live.projections[3].name in route.carried
    plain = score_edits(live, WINDOWS, variants, Shortcuts(), batch_size=16)
    quick = score_edits(live, WINDOWS, variants, route, batch_size=16)
    assert abs(plain[1].nll - plain[0].nll).max() > 0.1
    for a, b in zip(plain, quick, strict=True):
        assert np.allclose(a.nll, b.nll, rtol=1e-5)


@pytest.mark.parametrize("layout", layouts(without=NOT_ENTERED))
@torch.no_grad()
def test_a_layer_entered_after_its_projection_leaves_what_the_edited_layer_does(layout):
    """Norms after the MLP, gates of shared experts, routing weights: what follows the projection runs for each."""
    live = anatomy(tiny(layout, sharp=True))
    ids = WINDOWS.ids[:1]
    way = chain(live, ids, live.projections)
    assert way.inside.keys() == {p.name for p in live.projections}
    own = {name: module.__dict__.get("forward") for name, module in live.model.named_modules()}
    for inside in way.inside.values():
        layer, projection = inside.projection.layer, inside.projection
        places = [projection.coordinate(row, col, 0 if projection.stacked else None) for row, col in ((3, 5), (9, 2))]
        outputs = inside.output.repeat(3, 1, 1)
        for copy, place in zip(outputs, places, strict=False):
            rows, x, factor = inside.activations(place)
            copy[rows, place.row] += 7.0 * x * factor
        entered = way.after(inside, outputs)
        assert torch.allclose(entered[2:], way.streams[layer + 1], atol=1e-5)
        for each, place in zip(entered, places, strict=False):
            with edited(live, [Edit(place, offset=7.0)]):
                whole = way.layer(layer, way.streams[layer])
            assert torch.allclose(each, whole[0], atol=1e-4 * float(whole.abs().max()))
    assert own == {name: module.__dict__.get("forward") for name, module in live.model.named_modules()}


def test_a_layer_that_calls_a_module_twice_is_not_entered():
    live = anatomy(tiny("llama", sharp=True))
    layer = live.layers[1]
    layer.mlp.down_proj.register_forward_hook(lambda module, inputs, output: output + module.forward(inputs[0]))
    layer.input_layernorm.register_forward_hook(lambda module, inputs, output: layer.post_attention_layernorm(output))
    variants = [(zero(Coordinate(number, 3, 5)),) for number in (1, 2)]
    route = shortcuts_of(live, WINDOWS.ids[:1], variants)
    assert route.added == {"model.layers.2.mlp.down_proj"} and len(route.carried) == 2
    for a, b in zip(
        *(score_edits(live, WINDOWS, variants, each, batch_size=16) for each in (Shortcuts(), route)), strict=True
    ):
        assert np.allclose(a.nll, b.nll, rtol=1e-6)


def test_edits_that_show_outside_of_their_layer_take_whole_passes():
    live = anatomy(tiny("llama", sharp=True))
    live.layers[2].mlp.down_proj.weight = live.layers[1].mlp.down_proj.weight
    place = Coordinate(1, 3, 5)
    variants = [
        (set_to(place, 50.0),), (scale(Coordinate(0, None, None, role="W_U"), 0.5),),
        (scale(Coordinate(3, None, None, role="W_E"), -9.0), zero(Coordinate(2, 3, 5))),
    ]  # fmt: skip
    route = shortcuts_of(live, WINDOWS.ids[:1], variants)
    assert len(route.shared) == 1 and not any(route.takes(live, variant) for variant in variants)
    plain = score_edits(live, WINDOWS, variants, Shortcuts(), batch_size=16)
    quick = score_edits(live, WINDOWS, variants, route, batch_size=16)
    assert all(abs(each.nll - plain[0].nll).max() > 0.01 for each in plain[1:])
    for a, b in zip(plain, quick, strict=True):
        assert a.nll.tolist() == b.nll.tolist()


def test_memory_that_runs_out_in_a_trial_is_not_taken_for_a_verdict():
    live = anatomy(tiny("llama"))

    def exhaust(module, inputs):
        raise torch.OutOfMemoryError("out of memory")

    live.layers[2].register_forward_pre_hook(exhaust)
    with pytest.raises(torch.OutOfMemoryError):
        shortcuts_of(live, WINDOWS.ids[:1], [(zero(Coordinate(1, 0, 0)),)])


def test_nothing_is_restarted_where_nothing_is_saved():
    live = anatomy(tiny("dbrx"))
    variants = [(zero(Coordinate(layer, 3, 5, 0)),) for layer in (0, 1)]
    route = shortcuts_of(live, WINDOWS.ids[:1], variants)
    assert [route.takes(live, variant) for variant in variants] == [False, True]
    assert not Shortcuts().takes(live, variants[1]) and not route.takes(live, ())


def test_trials_are_worth_their_passes_only_for_enough_late_edits():
    live = anatomy(tiny("llama"))
    late, early = (zero(Coordinate(3, 3, 5)),), (zero(Coordinate(0, 3, 5)),)
    many = fixed_windows(np.random.default_rng(0).integers(5, 300, 400), window=20, prefix=[1])
    assert not pays(live, WINDOWS, [])
    assert not pays(live, many, [early] * 1000)
    assert not pays(live, WINDOWS.first(1), [late] * 9)
    assert pays(live, WINDOWS.first(1), [late] * 10) and pays(live, many, [late])


def test_scores_of_some_positions_are_those_of_all():
    from weight_atlas.super_weights.verification_plan import every_token

    live = anatomy(tiny("gpt2"))
    sparse = every_token(WINDOWS, 4)
    assert 0 < sparse.scored.sum() < WINDOWS.scored.sum()
    assert sparse.scored[:, -1].all()
    (whole,) = score_edits(live, WINDOWS, [], Shortcuts(), batch_size=16)
    (some,) = score_edits(live, sparse, [], Shortcuts(), batch_size=16)
    with torch.no_grad():
        logits = live.model(WINDOWS.ids).logits.log_softmax(-1)
    losses = -logits[:, :-1].gather(2, WINDOWS.ids[:, 1:, None])[..., 0]
    assert np.allclose(some.nll, (losses * sparse.scored[:, 1:]).sum(1), rtol=1e-5)
    assert np.allclose(whole.nll, (losses * WINDOWS.scored[:, 1:]).sum(1), rtol=1e-5)


def test_edits_inside_a_climb_are_undone_when_it_fails():
    live = anatomy(tiny("llama"))
    before = {name: parameter.clone() for name, parameter in live.model.named_parameters()}

    def fail(module, inputs, output):
        if module.weight[0, 0] == 0:
            raise RuntimeError("shape")

    handle = live.layers[2].mlp.down_proj.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="shape"):
        score_edits(
            live,
            WINDOWS,
            [(zero(Coordinate(2, 0, 0)),)],
            Shortcuts(frozenset({live.projections[2].name})),
            batch_size=16,
        )
    handle.remove()
    assert all(torch.equal(before[name], parameter) for name, parameter in live.model.named_parameters())
    with edited(live, []):
        assert shortcuts_of(live, WINDOWS.ids[:1], [(zero(Coordinate(2, 0, 0)),)]).carried


def test_models_that_accelerate_has_put_its_hooks_on():
    """As models spread over devices are: every module's forward is wrapped on the instance."""
    from accelerate import dispatch_model

    plain = anatomy(tiny("llama", sharp=True))
    place = plant(plain, 1, 9, 21)
    expected = score_edits(plain, WINDOWS, [(zero(place),)], Shortcuts(), batch_size=16)
    model = tiny("llama", sharp=True)
    plant(anatomy(model), 1, 9, 21)
    parts = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    layers = {f"model.layers.{number}": "cpu" for number in range(4)}
    live = anatomy(dispatch_model(model, device_map={**parts, **layers}, force_hooks=True))
    assert "forward" in live.layers[0].__dict__
    wrapped = live.layers[0].__dict__["forward"]
    route = shortcuts_of(live, WINDOWS.ids[:1], [(zero(place),)])
    assert route.carried == route.added == {"model.layers.1.mlp.down_proj"}
    scores = score_edits(live, WINDOWS, [(zero(place),)], route, batch_size=16)
    assert [each.nll.tolist() for each in scores] == [each.nll.tolist() for each in expected]
    assert live.layers[0].__dict__["forward"] is wrapped
