"""What single weights add to the stream, and what stands in for it, on every layout."""

import pytest
import torch
from live_models import layouts, plant, tiny

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.contributions import input_replaced, inputs_observed, mean_contribution
from weight_atlas.live.edits import edited, value_at, zero

IDS = torch.tensor([[1, 50, 60, 70, 80, 90, 100, 110], [5, 51, 61, 71, 81, 91, 101, 111]])


def outputs(live, place):
    """What the place's projection, or container of experts, puts out: (tokens, d_model), or Llama 4's (E * n, d)."""
    seen = []
    # Prepended, a hook would see the output before the stand-in's.
    handle = live.projection(place).container.register_forward_hook(lambda module, inputs, output: seen.append(output))
    live.model(IDS)
    handle.remove()
    return seen[0].reshape(-1, seen[0].shape[-1])


def places(layout):
    live = anatomy(tiny(layout, sharp=True))
    planted = plant(live, 1, 9, 21)
    others = [p.coordinate(3, 5, 2 if p.stacked else None) for p in live.projections]
    return live, [planted, *others]


@pytest.mark.parametrize("layout", layouts())
def test_a_stand_in_that_changes_nothing_gives_the_model_back(layout):
    live, coordinates = places(layout)
    before = {name: parameter.clone() for name, parameter in live.model.named_parameters()}
    for place in coordinates:
        plain, logits = outputs(live, place), live.model(IDS).logits
        with edited(live, [zero(place)]):
            without = outputs(live, place)
        assert place != coordinates[0] or not torch.equal(plain, without)
        with input_replaced(live, place, lambda x: x):
            assert torch.allclose(outputs(live, place), plain, rtol=1e-5, atol=1e-5 * plain.abs().max())
            assert torch.allclose(live.model(IDS).logits, logits, atol=1e-4 * logits.abs().max())
        with input_replaced(live, place, torch.zeros_like):
            assert torch.equal(outputs(live, place), without)
    assert all(torch.equal(before[name], parameter) for name, parameter in live.model.named_parameters())


@pytest.mark.parametrize("layout", layouts())
def test_a_mean_contribution_leaves_the_mean_of_a_channel_and_all_others(layout):
    """Weighted by what the router gives each token: the sum of differences is that of factor * w * (x - mean)."""
    live, (place, *_) = places(layout)
    seen = []
    with inputs_observed(live, [place], lambda _, x: seen.append(x)):
        plain = outputs(live, place)
    mean, weight = seen[0].mean().item(), value_at(live, place)
    with mean_contribution(live, place, mean):
        shifted = outputs(live, place)
    with edited(live, [zero(place)]):
        without = outputs(live, place)
    own, given = (plain - without)[:, place.row].double(), (shifted - without)[:, place.row].double()
    reached = given != 0
    assert reached.sum() == len(seen[0])
    # What an activation near zero adds is lost in rounding.
    large = seen[0].abs() > 0.1
    factor = own[reached][large] / (weight * seen[0][large].double())
    assert torch.allclose(given[reached][large], factor * weight * mean, rtol=1e-3)
    if not live.projection(place).stacked:
        assert torch.allclose(factor, torch.ones_like(factor), rtol=1e-3)
    else:
        # DeepSeek scales routing weights up; none is negative.
        assert (factor > 0).all()
    elsewhere = torch.arange(plain.shape[1]) != place.row
    assert torch.equal(shifted[:, elsewhere], without[:, elsewhere])


def test_an_expert_that_no_token_reaches_changes_nothing():
    live = anatomy(tiny("mixtral"))
    container = live.projections[1].container
    container.register_forward_pre_hook(lambda module, given: (given[0], given[1] % 2, given[2]))
    place = live.projections[1].coordinate(3, 5, 3)
    seen = []
    with inputs_observed(live, [place], lambda _, x: seen.append(x)):
        plain = outputs(live, place)
    assert len(seen[0]) == 0
    with mean_contribution(live, place, 100.0):
        assert torch.equal(outputs(live, place), plain)


def test_half_precision_models_keep_their_type():
    for layout in ("llama", "mixtral", "llama4_text"):
        live = anatomy(tiny(layout).bfloat16())
        projection = live.projections[1]
        place = projection.coordinate(3, 5, 0 if projection.stacked else None)
        with mean_contribution(live, place, 1.0):
            assert live.model(IDS).logits.dtype == torch.bfloat16


def test_more_than_one_weight_is_refused_and_a_failing_pass_restores_the_weight():
    live = anatomy(tiny("llama"))
    with pytest.raises(AtlasError, match="more than one weight"), mean_contribution(live, Coordinate(1, None, 3), 1.0):
        pass
    place = Coordinate(1, 9, 21)
    before, module = value_at(live, place), live.projection(place).container
    hooks = len(module._forward_hooks)

    def fail(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), input_replaced(live, place, fail):
        live.model(IDS)
    assert value_at(live, place) == before and len(module._forward_hooks) == hooks
