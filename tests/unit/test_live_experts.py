"""What passes through stacked experts, as their container is called."""

import pytest
import torch
from live_models import tiny

from weight_atlas.errors import AtlasError
from weight_atlas.interventions.quantized_layers import layer_matrices
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.experts import expert_activations, forced_routing, routing_of
from weight_atlas.live.matrices import matrix_at

HUNYUAN = {"num_experts": 4, "moe_topk": 2, "num_experts_per_tok": 2}
JETMOE = {"num_local_experts": 4, "num_experts_per_tok": 2, "kv_channels": 16}
IDS = torch.tensor([[1, 50, 60, 70, 80, 90, 100, 110], [5, 51, 61, 71, 81, 91, 101, 111]])


def routed(live, projection):
    seen = []
    handle = projection.container.register_forward_pre_hook(
        lambda module, inputs, keywords: seen.append(routing_of(projection, inputs, keywords)), with_kwargs=True
    )
    live.model(IDS)
    handle.remove()
    return seen[0]


def stacked(layout, **changes):
    live = anatomy(tiny(layout, **changes))
    return live, next(projection for projection in live.projections if projection.stacked)


def test_a_choice_of_weight_zero_is_a_choice():
    """A sharp router in half precision rounds the second choice's weight to zero; the token passes it all the same."""
    live, projection = stacked("mixtral")
    container = projection.container
    container.register_forward_pre_hook(
        lambda module, given: (given[0], given[1], torch.cat([given[2][:, :1], 0 * given[2][:, 1:]], 1))
    )
    activations = list(expert_activations(projection, routed(live, projection)))
    assert sum(len(one.token) for one in activations) == 2 * IDS.numel()


def test_a_token_without_an_expert_is_nobodys():
    live, projection = stacked("llama4_text")
    container, experts = projection.container, projection.n_experts

    def silence(module, given):
        hidden = given[0].view(experts, -1, given[0].shape[-1]).clone()
        hidden[:, 3] = 0
        return (hidden.view_as(given[0]),)

    container.register_forward_pre_hook(silence)
    routing = routed(live, projection)
    assert routing.index[3].tolist() == [experts] and (routing.index[:3] < experts).all()
    tokens = torch.cat([one.token for one in expert_activations(projection, routing)])
    assert sorted(tokens.tolist()) == [token for token in range(IDS.numel()) if token != 3]
    with forced_routing(projection, 2):
        assert live.model(IDS).logits.isfinite().all()


@pytest.mark.parametrize("layout", ["mixtral", "llama4_text", "gpt_oss", "dbrx"])
def test_forced_tokens_leave_the_choice_whose_place_is_taken(layout):
    live, projection = stacked(layout)
    before = routed(live, projection)
    with forced_routing(projection, 2):
        after = routed(live, projection)
    had = (before.index == 2).any(1)
    assert (after.index == 2).any(1).all() and not had.all()
    assert torch.equal(after.index[had], before.index[had])
    if not before.scaled:
        assert torch.equal(after.index[~had, :-1], before.index[~had, :-1])
        assert torch.equal(after.weight, before.weight)
    else:
        # One choice a token: what was the chosen expert's input is now expert 2's, and nobody else's.
        assert after.index[:, 0].eq(2).all()
        assert torch.equal(after.hidden, before.hidden)


@pytest.mark.parametrize("name, dtype", [("down_proj", torch.float8_e4m3fn), ("gate_up_proj", torch.uint8)])
def test_quantized_experts_are_refused(name, dtype):
    model = tiny("mixtral")
    container = model.model.layers[1].mlp.experts
    setattr(container, name, torch.nn.Parameter(getattr(container, name).to(dtype), requires_grad=False))
    with pytest.raises(AtlasError, match="quantized"):
        anatomy(model)


def test_packed_experts_are_refused():
    model = tiny("gpt_oss")
    container = model.model.layers[1].mlp.experts
    shape = container.down_proj.shape
    del container.down_proj
    container.down_proj_blocks = torch.nn.Parameter(torch.zeros(shape, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(AtlasError, match="quantized"):
        anatomy(model)


@pytest.mark.parametrize(
    "layout, settings, router",
    [
        ("dbrx", {}, "transformer.blocks.1.ffn.router.layer"),
        ("hunyuan_v1_moe", HUNYUAN, "model.layers.1.mlp.gate.wg"),
        ("jetmoe", JETMOE, "model.layers.1.mlp.router.layer"),
        ("mixtral", {}, "model.layers.1.mlp.gate"),
    ],
)
def test_no_router_is_quantized_whatever_its_name(layout, settings, router):
    live = anatomy(tiny(layout, **settings))
    assert live.model.get_submodule(router).weight.shape == (4, 64)
    names = {name for _, name, _ in layer_matrices(live)}
    assert names and not {name for name in names if name.startswith(router)}


def test_gate_and_up_of_experts_in_two_modules_are_found():
    live = anatomy(tiny("jetmoe", **JETMOE))
    fused = live.layers[1].mlp.input_linear.weight
    for number, role in enumerate(("W_gate", "W_up")):
        half = matrix_at(live, Coordinate(1, None, None, 3, role))
        assert torch.equal(half, fused[3].chunk(2)[number]) and half.data_ptr() == fused[3].chunk(2)[number].data_ptr()


def test_a_batch_of_as_many_texts_as_experts_is_no_routing():
    """JetMoE routes inside the module that gets the stream: what that is called with tells no token's experts."""
    _, projection = stacked("jetmoe", **JETMOE)
    with pytest.raises(AtlasError, match="called in an unknown way"):
        routing_of(projection, (torch.randn(4, 6, 64),), {})
