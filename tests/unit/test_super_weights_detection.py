"""Detection from one pass: planted weights of every layout, sets, echoes, inert weights, and none."""

from dataclasses import replace

import pytest
import torch
from live_models import LAYOUTS, LISTED, layouts, marks_of, plant, random_prompts, tiny

from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.matrices import matrix_at
from weight_atlas.settings.super_weights import SuperWeights
from weight_atlas.super_weights.detection import detect
from weight_atlas.super_weights.massive_activations import massive_activations
from weight_atlas.super_weights.recording import record

DEFAULTS = SuperWeights()
PLACES = [
    pytest.param(layout, component, marks=marks_of(layout))
    for layout in (*LAYOUTS, LISTED)
    for component in {
        "qwen2_moe": ["mlp.experts", "mlp.shared_expert.down_proj"],
        "deepseek_v3": ["mlp.experts", "mlp.shared_experts.down_proj"],
        "llama4_text": ["feed_forward.experts", "feed_forward.shared_expert.down_proj"],
        LISTED: ["mlp.experts.0.down_proj", "mlp.shared_experts.down_proj"],
    }.get(layout, [""])
]


@pytest.mark.parametrize(("layout", "component"), PLACES)
def test_the_planted_weight_is_found_first_and_explains_its_activation(layout, component):
    model = tiny(layout)
    live = anatomy(model)
    place = plant(live, 1, 9, 21, component=component)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    detection = detect(live, record(live, random_prompts()), DEFAULTS)
    (found,) = detection.found
    assert found.contribution.coordinate == place
    assert found.contribution.share == pytest.approx(1, abs=0.02)
    assert found.contribution.rho == pytest.approx(1, abs=0.02)
    assert found.contribution.weight == 7.5
    assert found.attribution.mlp_share == pytest.approx(1, abs=0.02)
    assert found.attribution.participation_ratio < 1.1
    assert found.attribution.massive.ratio > 50
    step = detection.steps[detection.steps.reason == ""].iloc[0]
    assert (step.layer, step.channel, step.onset) == (1, 9, 1)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_two_weights_that_feed_one_row_are_a_set():
    live = anatomy(tiny("llama"))
    plant(live, 1, 9, 21, write=300)
    plant(live, 1, 9, 35, write=200)
    found = detect(live, record(live, random_prompts()), DEFAULTS).found
    assert [(one.contribution.coordinate.col, round(one.contribution.share, 2)) for one in found] == [
        (21, 0.6),
        (35, 0.4),
    ]


def test_a_set_ends_when_it_explains_enough():
    live = anatomy(tiny("llama"))
    plant(live, 1, 9, 21, write=450)
    plant(live, 1, 9, 35, write=75)
    recording = record(live, random_prompts())
    for options, cols in (({}, [21]), ({"coverage": 0.9}, [21, 35]), ({"coverage": 0.9, "min_share": 0.2}, [21])):
        assert [
            one.contribution.coordinate.col for one in detect(live, recording, SuperWeights(**options)).found
        ] == cols


def test_two_neurons_that_write_two_channels_are_both_found():
    live = anatomy(tiny("gpt2"))
    places = {plant(live, 0, 9, 21, write=300), plant(live, 2, 33, 7, write=500)}
    assert {
        one.contribution.coordinate for one in detect(live, record(live, random_prompts()), DEFAULTS).found
    } == places


def test_a_last_layer_echo_is_rejected():
    live = anatomy(tiny("llama"))
    plant(live, 3, 9, 21)
    detection = detect(live, record(live, random_prompts()), DEFAULTS)
    assert not detection.found


def test_an_activation_that_the_next_layer_takes_away_is_rejected():
    live = anatomy(tiny("llama"))
    plant(live, 1, 9, 21)

    def wipe(module, inputs, output):
        wiped = output.clone()
        wiped[..., 9] = 0
        return wiped

    handle = live.layers[2].register_forward_hook(wipe)
    detection = detect(live, record(live, random_prompts()), DEFAULTS)
    handle.remove()
    assert not detection.found
    assert set(detection.steps.reason) == {"does not last"}
    assert detect(live, record(live, random_prompts()), DEFAULTS).found


def test_an_activation_spread_over_many_weights_has_no_super_weight():
    live = anatomy(tiny("llama"))
    for col in range(20):
        plant(live, 1, 9, col, write=30)
    detection = detect(live, record(live, random_prompts()), DEFAULTS)
    assert not detection.found
    (step,) = detection.steps[detection.steps.layer == 1].itertuples()
    assert step.reason == "spread over many weights"
    assert step.participation_ratio == pytest.approx(20, rel=0.05)


def test_one_weight_among_many_that_share_the_rest_is_not_enough():
    """It has a share of its own, but explains less than half."""
    live = anatomy(tiny("llama"))
    plant(live, 1, 9, 0, write=300)
    for col in range(1, 21):
        plant(live, 1, 9, col, write=35)
    detection = detect(live, record(live, random_prompts()), DEFAULTS)
    assert not detection.found
    (step,) = detection.steps[detection.steps.layer == 1].itertuples()
    assert step.reason == "spread over many weights"
    assert detection.contributions.share.max() == pytest.approx(0.3, abs=0.02)
    assert not detection.contributions.accepted.any()
    # One that explains half does.
    plant(live, 1, 9, 0, write=750)
    (found,) = detect(live, record(live, random_prompts()), DEFAULTS).found
    assert (found.contribution.coordinate.col, round(found.contribution.share, 2)) == (0, 0.52)


def test_a_multiplier_on_what_layers_add_is_part_of_the_step():
    """Granite scales the MLP's output: what reaches the stream is half of what is written."""
    live = anatomy(tiny("granitemoe", residual_multiplier=0.5))
    place = plant(live, 1, 9, 21)
    (found,) = detect(live, record(live, random_prompts()), DEFAULTS).found
    assert found.contribution.coordinate == place
    assert found.attribution.mlp_share == pytest.approx(1, abs=0.02)


def test_two_experts_that_write_one_channel_count_by_their_routing_weights():
    live = anatomy(tiny("mixtral"))
    live.layers[1].mlp.gate.weight *= 80
    place = plant(live, 1, 9, 21)
    flows = [flow for flow in record(live, random_prompts()).flows_of(1) if (flow.token == 0).any()]
    other = next(flow for flow in flows if flow.expert != place.expert)
    at = int((other.token == 0).nonzero())
    col = int(other.x[at].abs().argmax())
    other.projection.matrix(other.expert)[9, col] = 200 / other.x[at, col]
    detection = detect(live, record(live, random_prompts()), DEFAULTS)
    factors = {flow.expert: float(flow.factor[flow.token == 0]) for flow in flows}
    first, second = 300 * factors[place.expert], 200 * factors[other.expert]
    assert factors[place.expert] > 1.3 * factors[other.expert]
    shares = {one.contribution.coordinate: one.contribution.share for one in detection.found}
    assert shares == {
        place: pytest.approx(first / (first + second), rel=0.01),
        replace(place, expert=other.expert, col=col): pytest.approx(second / (first + second), rel=0.01),
    }
    ratio = (first + second) ** 2 / (first**2 + second**2)
    assert detection.found[0].attribution.participation_ratio == pytest.approx(ratio, rel=0.02)


def test_a_large_weight_behind_a_silent_neuron_is_not_found():
    live = anatomy(tiny("llama"))
    matrix_at(live, live.projections[1].coordinate(0, 0))[9, 21] = 5.0
    assert not detect(live, record(live, random_prompts()), DEFAULTS).found


def test_an_activation_without_the_prefix_only_does_not_count():
    live = anatomy(tiny("llama"))
    plant(live, 1, 9, 21, token=7)
    prompts = random_prompts()
    body = prompts.ids.clone()
    body[: len(body) // 2, 1:][body[: len(body) // 2, 1:] == 7] = 8
    body[len(body) // 2 :, 0] = 7
    # The neuron fires a little on all tokens: far below the threshold here.
    detection = detect(live, record(live, replace(prompts, ids=body)), SuperWeights(residual_ratio=5000))
    assert not detection.found
    assert "only without the tokenizer's prefix" in set(detection.steps.reason)
    # A tokenizer without a prefix has nothing to leave out: then it counts.
    bare = replace(prompts, ids=body, prefixed=[False] * len(body))
    found = detect(live, record(live, bare), SuperWeights(residual_ratio=5000)).found
    assert [one.contribution.coordinate.col for one in found] == [21]


@pytest.mark.parametrize("layout", layouts(LISTED))
def test_a_random_model_has_none(layout):
    live = anatomy(tiny(layout, seed=3))
    recording = record(live, random_prompts())
    assert massive_activations(recording, ratio=50) == []
    detection = detect(live, recording, DEFAULTS)
    assert (detection.found, len(detection.steps), len(detection.contributions)) == ([], 0, 0)


def test_padding_changes_nothing():
    live = anatomy(tiny("mixtral"))
    plant(live, 1, 9, 21)
    prompts = random_prompts()
    pad = torch.full((len(prompts.ids), 5), 77)
    wider = replace(prompts, ids=torch.cat([prompts.ids, pad], 1), valid=torch.cat([prompts.valid, pad == 0], 1))
    a, b = (detect(live, record(live, each), DEFAULTS) for each in (prompts, wider))
    columns = ["layer", "channel", "position", "tokens", "reason"]
    assert a.steps[columns].equals(b.steps[columns])
    assert [x.contribution.share for x in a.found] == pytest.approx([x.contribution.share for x in b.found], rel=1e-4)


def test_an_activation_of_a_layer_without_an_mlp():
    """A hybrid model has layers of one mixer only (nemotron_h): nothing there can have a super weight."""
    whole = anatomy(tiny("llama"))
    hybrid = replace(whole, projections=[p for p in whole.projections if p.layer != 1])

    def spike(module, inputs, output):
        raised = output.clone()
        raised[:, 0, 9] += 300
        return raised

    handle = hybrid.layers[1].register_forward_hook(spike)
    detection = detect(hybrid, record(hybrid, random_prompts()), DEFAULTS)
    assert not detection.found
    assert set(detection.steps.reason) == {"born in a layer without an MLP"}
    assert set(detection.steps.mlp_share) == {0}
    # The same in a layer whose MLP has no part in it.
    assert set(detect(whole, record(whole, random_prompts()), DEFAULTS).steps.reason) == {"born in attention"}
    handle.remove()
