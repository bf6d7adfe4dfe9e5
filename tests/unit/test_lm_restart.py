"""Restarting at the edited layer gives the plain forward pass, on every layout."""

import numpy as np
import pytest
import torch
from lm_models import LAYOUTS, plant, tiny

from weight_atlas.lm.anatomy import Coordinate, anatomy
from weight_atlas.lm.edits import edited, scale, set_to, zero
from weight_atlas.lm.restart import chain, is_chain, logits_at
from weight_atlas.lm.variants import Route, route_of, score_variants
from weight_atlas.lm.windows import fixed_windows

WINDOWS = fixed_windows(np.random.default_rng(0).integers(5, 300, 60), window=20, prefix=[1])
# A norm follows the MLP, or a gate multiplies what the shared expert puts out.
NOT_ADDITIVE = ("gemma2", "olmo2", "qwen2_moe")


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_logits_are_the_models_own(layout):
    live = anatomy(tiny(layout))
    ids = WINDOWS.ids[:1]
    assert is_chain(live, ids)
    own = {name: module.__dict__.get("forward") for name, module in live.model.named_modules()}
    way = chain(live, ids)
    whole = live.model(ids).logits
    positions = torch.tensor([0, 3, 19])
    restarted = way.logits(way.streams[-1], positions)
    assert torch.equal(restarted, logits_at(live, ids, positions))
    assert torch.allclose(restarted, whole[:, positions], atol=1e-5)
    for start in (0, 2):
        hidden = way.streams[start]
        for number in range(start, 4):
            hidden = way.layer(number, hidden)
        assert torch.equal(hidden, way.streams[-1])
    assert own == {name: module.__dict__.get("forward") for name, module in live.model.named_modules()}


@pytest.mark.parametrize("layout", LAYOUTS)
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
    dense = next((single for single in singles if single.expert is None), None)
    route = route_of(live, WINDOWS.ids[:1], zero(dense) if dense else None)
    assert route == Route(True, dense is not None and layout not in NOT_ADDITIVE)
    before = {name: parameter.clone() for name, parameter in live.model.named_parameters()}
    plain = score_variants(live, WINDOWS, variants, Route(False, False))
    quick = score_variants(live, WINDOWS, variants, route, batch_size=3)
    assert len(plain) == len(quick) == len(variants) + 1
    for a, b in zip(plain, quick, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist() == WINDOWS.scored.sum(1).tolist()
        assert np.allclose(a.nll, b.nll, rtol=1e-5)
    assert abs(plain[1].nll - plain[0].nll).max() > 1
    assert all(torch.equal(before[name], parameter) for name, parameter in live.model.named_parameters())


def test_large_differences_are_not_added_but_run():
    """h - (h - small) would leave only rounding: such variants take the layer itself, in every type."""
    live = anatomy(tiny("llama", sharp=True).bfloat16())
    place = plant(live, 1, 9, 21)
    assert route_of(live, WINDOWS.ids[:1], zero(Coordinate(2, 3, 4))) == Route(True, True)
    normed = anatomy(tiny("gemma2").bfloat16())
    plant(normed, 0, 9, 21)
    assert route_of(normed, WINDOWS.ids[:1], zero(Coordinate(2, 3, 4))) == Route(True, False)
    variants = [(zero(place),)]
    quick = score_variants(live, WINDOWS, variants, Route(True, True))
    plain = score_variants(live, WINDOWS, variants, Route(False, False))
    assert quick[1].nll.tolist() == plain[1].nll.tolist()


def test_a_model_whose_layers_share_more_than_the_stream_is_no_chain():
    live = anatomy(tiny("llama"))
    layer = live.layers[2]
    first = {}
    live.layers[0].register_forward_hook(lambda module, inputs, output: first.__setitem__("h", output))
    layer.register_forward_hook(
        lambda module, inputs, output: output + first["h"].mean(0, keepdim=True) * live.model.training
    )
    assert is_chain(live, WINDOWS.ids[:1])
    counter = iter(range(1000))
    layer.register_forward_hook(lambda module, inputs, output: output * (1 + next(counter)))
    assert not is_chain(live, WINDOWS.ids[:1])
    assert route_of(live, WINDOWS.ids[:1], zero(Coordinate(1, 0, 0))) == Route(False, False)


def test_scores_of_some_positions_are_those_of_all():
    from weight_atlas.super_weights.verification import every_token

    live = anatomy(tiny("gpt2"))
    sparse = every_token(WINDOWS, 4)
    assert 0 < sparse.scored.sum() < WINDOWS.scored.sum()
    assert sparse.scored[:, -1].all()
    (whole,) = score_variants(live, WINDOWS, [], Route(True, False))
    (some,) = score_variants(live, sparse, [], Route(True, False))
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
        score_variants(live, WINDOWS, [(zero(Coordinate(2, 0, 0)),)], Route(True, False))
    handle.remove()
    assert all(torch.equal(before[name], parameter) for name, parameter in live.model.named_parameters())
    with edited(live, []):
        assert is_chain(live, WINDOWS.ids[:1])


def test_models_that_accelerate_has_put_its_hooks_on():
    """As models spread over devices are: every module's forward is wrapped on the instance."""
    from accelerate import dispatch_model

    plain = anatomy(tiny("llama", sharp=True))
    place = plant(plain, 1, 9, 21)
    expected = score_variants(plain, WINDOWS, [(zero(place),)], Route(False, False))
    model = tiny("llama", sharp=True)
    plant(anatomy(model), 1, 9, 21)
    parts = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    layers = {f"model.layers.{number}": "cpu" for number in range(4)}
    live = anatomy(dispatch_model(model, device_map={**parts, **layers}, force_hooks=True))
    assert "forward" in live.layers[0].__dict__
    wrapped = live.layers[0].__dict__["forward"]
    route = route_of(live, WINDOWS.ids[:1], zero(Coordinate(2, 3, 4)))
    assert route == Route(True, True)
    scores = score_variants(live, WINDOWS, [(zero(place),)], route)
    assert [each.nll.tolist() for each in scores] == [each.nll.tolist() for each in expected]
    assert live.layers[0].__dict__["forward"] is wrapped
