"""Detection from one pass: planted weights of every layout, sets, echoes, inert weights, and none."""

from dataclasses import replace

import pytest
import torch
from live_models import LAYOUTS, LISTED, drawn, plant, random_prompts, tiny, word_tokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.figures import super_weights as figures
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.edits import edited, set_to, zero
from weight_atlas.live.matrices import matrix_at
from weight_atlas.settings.super_weights import SuperWeights
from weight_atlas.super_weights.artifact import coordinates_of, detected_records, merged, name_on_disk
from weight_atlas.super_weights.detection import detect
from weight_atlas.super_weights.massive_activations import massive_activations
from weight_atlas.super_weights.prompts import Prompts, bundled_prompts, tokenized
from weight_atlas.super_weights.recording import Recording, record
from weight_atlas.super_weights.routing_measures import expert_record
from weight_atlas.super_weights.survey import survey

DEFAULTS = SuperWeights()

PLACES = [
    (layout, component)
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


def test_contributions_add_up_to_what_the_projection_puts_out():
    """Against the module's own output, in float64 from the recorded input."""
    live = anatomy(tiny("opt"))
    plant(live, 1, 9, 21)
    recording = record(live, random_prompts())
    for flow in recording.flows_of(1):
        matrix = matrix_at(live, flow.projection.coordinate(0, 0)).double()
        expected = flow.x.double() @ matrix.T + live.layers[1].fc2.bias.double()
        assert torch.allclose(flow.y.double(), expected, atol=1e-4)


@pytest.mark.parametrize("layout", ["qwen2_moe", "gpt_oss", "dbrx", "granitemoe", "llama4_text", "deepseek_v3"])
def test_expert_activations_add_up_to_the_containers_output(layout):
    """Recomputed from the routing alone; the container runs its own fused kernels."""
    from weight_atlas.live.experts import expert_activations, routing_of

    live = anatomy(tiny(layout))
    projection, seen = next(p for p in live.projections if p.stacked), {}

    def look(module, inputs, keywords, output):
        routing = routing_of(projection, inputs, keywords)
        total = torch.zeros(len(routing.hidden), 64)
        for one in expert_activations(projection, routing):
            total[one.token] += one.weight[:, None] * one.y
        container = output.reshape(-1, 64)
        seen["error"] = (total - (container.view(4, -1, 64).sum(0) if routing.scaled else container)).abs().max()
        seen["size"] = container.abs().max()

    handle = projection.container.register_forward_hook(look, with_kwargs=True)
    live.model(random_prompts().ids)
    handle.remove()
    assert seen["size"] > 0
    assert seen["error"] <= 1e-5 * seen["size"]


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


def streams(*traces, channel=3):
    """A recording of one prompt of len(traces) tokens: each trace a channel after the embedding and every layer."""
    length, layers = len(traces), len(traces[0])
    prompts = Prompts(torch.zeros(1, length).long(), torch.ones(1, length).bool(), [True], [0], [["t"] * length])
    residual = [torch.ones(1, length, 50) for _ in range(layers)]
    for token, trace in enumerate(traces):
        for place, value in enumerate(trace):
            residual[place][0, token, channel] = value
    return Recording(prompts, residual)


def test_what_a_massive_activation_is():
    (one,) = massive_activations(streams([1, 2, -100, -110, -105, -105], [1, 1, 1, 1, 1, 1]), ratio=50)
    assert (one.prompt, one.position, one.channel, one.ratio, one.onset, one.steps) == (0, 0, 3, 110, 1, (1,))
    assert one.peak == -110 and one.jump(1) == -102
    assert one.persistence(1) == 1 and one.persistence(3) == 1 and one.persistence(4) == 0
    assert massive_activations(streams([1, 2, -100, -110, -105, -105]), ratio=111) == []
    # A step adds a fifth of the peak or more, outward; half of the peak makes the onset.
    (two,) = massive_activations(streams([1, 40, 40, 100, 119, 99, 60, 60]), ratio=50)
    assert (two.onset, two.steps) == (2, (0, 2))
    (three,) = massive_activations(streams([1, 40, 40, 100, 125, 99, 60, 60]), ratio=50)
    assert (three.onset, three.steps) == (2, (0, 2, 3))
    assert three.persistence(2) == 1 and three.persistence(3) == pytest.approx(1 / 3)
    # The embedding's own; and what only the last layer makes large is none.
    (born,) = massive_activations(streams([100, 100, 100]), ratio=50)
    assert (born.onset, born.steps) == (-1, ())
    assert massive_activations(streams([1, 1, 100]), ratio=50) == []


def test_what_the_router_did_leaves_padding_out():
    for layout in ("mixtral", LISTED):
        live = anatomy(tiny(layout))
        place = plant(live, 1, 9, 21)
        prompts = random_prompts()
        pad = torch.full((len(prompts.ids), 5), 77)
        wide = replace(prompts, ids=torch.cat([prompts.ids, pad], 1), valid=torch.cat([prompts.valid, pad == 0], 1))
        plain, padded = (expert_record(live, record(live, each), place) for each in (prompts, wide))
        assert plain["p_active"] == plain["routed_tokens_count"] / int(prompts.valid.sum())
        assert padded == pytest.approx(plain)
        index = {}
        gate = live.layers[1].mlp.gate
        handle = gate.register_forward_hook(lambda module, inputs, output, seen=index: seen.update(at=output))
        live.model(prompts.ids)
        handle.remove()
        chosen = index["at"][2] if layout == "mixtral" else index["at"].topk(2).indices
        reached = (chosen == place.expert).any(1) & prompts.valid.flatten()
        assert plain["routed_tokens_count"] == int(reached.sum())
        if layout == LISTED:
            # Prompts that begin alike have equal rows: each stands for its own token.
            own = record(live, prompts).expert_modules[live.projection(place).name].token
            assert own.sort().values.tolist() == (chosen == place.expert).any(1).nonzero()[:, 0].tolist()
    assert expert_record(live, record(live, prompts), replace(place, expert=None)) == {}


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


@pytest.mark.parametrize("layout", [*LAYOUTS, LISTED])
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


def test_nan_is_a_message():
    live = anatomy(tiny("llama"))
    broken = set_to(live.projections[2].coordinate(0, 0), float("nan"))
    with edited(live, [broken]), pytest.raises(AtlasError, match=r"not finite(.|\n)*model\.layers\.2"):
        record(live, random_prompts())


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


def test_a_stream_of_another_kind_is_a_message():
    """Gemma 3n passes several streams side by side from layer to layer."""
    model = {
        "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 300, "laurel_rank": 8, "sliding_window": 8,
        "activation_sparsity_pattern": [0.0] * 4, "num_kv_shared_layers": 0,
    }  # fmt: skip
    live = anatomy(tiny("gemma3n_text", **model))
    with pytest.raises(AtlasError, match=r"not one residual stream(.|\n)*Gemma 3n"):
        record(live, random_prompts())


def test_prompts_with_and_without_prefix():
    texts = ["one two three", "four five six seven"]
    with_bos = tokenized(word_tokenizer(bos=True), texts)
    assert with_bos.prefixed == [True, True, False, False]
    assert with_bos.ids[0].tolist() == [1, 5, 6, 7, 0]
    assert with_bos.valid.sum(1).tolist() == [4, 5, 3, 4]
    assert tokenized(word_tokenizer(bos=False), texts).prefixed == [False, False]
    with pytest.raises(AtlasError, match="two tokens"):
        tokenized(word_tokenizer(bos=False), ["one"])
    assert bundled_prompts()[0] == "Apple Inc. is a worldwide tech company."
    assert len(bundled_prompts()) == 8


@pytest.mark.parametrize("layout", ["llama", "qwen2_moe", "gpt_oss", "dbrx"])
def test_records_name_the_tensor_on_disk(layout, tmp_path):
    from weight_atlas.checkpoint.checkpoint import Checkpoint
    from weight_atlas.families.inventory import inventory
    from weight_atlas.families.pieces import load_piece

    model = tiny(layout)
    live = anatomy(model)
    place = plant(live, 1, 9, 21)
    model.save_pretrained(tmp_path)
    checkpoint = Checkpoint.from_folder(tmp_path)
    table = inventory(checkpoint)
    recording = record(live, random_prompts())
    (weight,) = detected_records(live, recording, detect(live, recording, DEFAULTS), table)
    same = (table.tensor == weight["tensor"]) & (table.role == "W_down")
    same &= table.expert.isna() if place.expert is None else table.expert == place.expert
    (row,) = table[same].itertuples()
    assert load_piece(checkpoint, row)[weight["row"], weight["column"]].item() == weight["original_value"] == 7.5
    if place.expert is not None:
        assert weight["routed_tokens_count"] >= 3
        assert 0 < weight["p_active"] <= 1
        assert 0 < weight["co_spike_score"] <= 1 + 1e-9
    assert name_on_disk(live, place, None) == live.projection(place).parameter_name


@pytest.mark.parametrize("bos", [True, False])
def test_survey_of_a_model(bos):
    live = anatomy(tiny("llama"))
    place = plant(live, 1, 9, 21, token=1 if bos else 5)
    texts = ["one two three four", "one five nine"]
    settings = SuperWeights(prompts=texts, spike_threshold=20.0, method="both")
    seen = survey(live, word_tokenizer(bos=bos), None, settings, model="m", source="x")
    assert coordinates_of(seen.artifact, "file") == [place]
    assert seen.table.found_by.tolist() == ["contribution+published"]
    assert seen.artifact["verdict"] == "found"
    assert len(seen.agreement) == 0
    assert set(seen.residual.layer) == {-1, 0, 1, 2, 3}
    assert "Published procedure: 1 candidate in 2 rounds" in drawn(figures.detection_iterations(seen.iterations, 20))
    places = figures.spike_places(seen.iterations, seen.table)
    assert len(places.axes[0].collections[0].get_offsets()) == 4 and "L1 [9, 21]" in drawn(places)
    residual = figures.residual_by_layer(seen.residual)
    assert [list(line.get_xdata()) for line in residual.axes[1].lines] == [[-1, 0, 1, 2, 3]] * 2
    assert max(residual.axes[1].lines[0].get_ydata()) == seen.residual.peak.max() and "all prompts" in drawn(residual)
    shares = figures.contribution_shares(seen.detection.contributions)
    assert max(patch.get_width() for patch in shares.axes[0].patches) == seen.detection.contributions.share.max()
    assert "neuron 21: " in drawn(shares)
    with edited(live, [zero(place)]):
        none = survey(live, word_tokenizer(bos=bos), None, SuperWeights(prompts=texts), model="m", source="x")
    assert "Published procedure: no candidate in 1 round" in drawn(figures.detection_iterations(none.iterations, 20))
    assert none.artifact["verdict"] == "none found"
    assert none.artifact["super_weights"] == none.artifact["published_procedure"] == []
    assert list(none.table.columns) == list(seen.table.columns)
    assert "No massive" in drawn(figures.contribution_shares(none.detection.contributions))


def test_merged_lists_name_a_weight_once():
    base = {"layer": 1, "component": "c", "expert_id": None, "row": 1, "column": 2}
    detected, published = [{**base, "found_by": ["contribution"], "share": 1}], [{**base, "found_by": ["published"]}]
    other = {**base, "column": 3, "found_by": ["published"]}
    joined = merged(detected, [*published, other])
    assert [record["found_by"] for record in joined] == [["contribution", "published"], ["published"]]
    assert joined[0]["share"] == 1
