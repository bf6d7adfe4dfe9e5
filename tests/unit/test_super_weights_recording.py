"""What a forward pass leaves for detection: prompts, massive activations, and what routers did."""

from dataclasses import replace

import pytest
import torch
from live_models import LISTED, plant, random_prompts, tiny, word_tokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.edits import edited, set_to
from weight_atlas.live.matrices import matrix_at
from weight_atlas.super_weights.massive_activations import massive_activations
from weight_atlas.super_weights.prompts import Prompts, bundled_prompts, tokenized
from weight_atlas.super_weights.recording import Recording, record
from weight_atlas.super_weights.routing_measures import expert_record


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


def test_nan_is_a_message():
    live = anatomy(tiny("llama"))
    broken = set_to(live.projections[2].coordinate(0, 0), float("nan"))
    with edited(live, [broken]), pytest.raises(AtlasError, match=r"not finite(.|\n)*model\.layers\.2"):
        record(live, random_prompts())


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
