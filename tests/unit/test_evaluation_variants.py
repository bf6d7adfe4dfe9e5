"""What an ablation of the configuration does to the weights, and that nothing of it stays."""

import json

import numpy as np
import pytest
import torch
from lm_models import plant, tiny

from weight_atlas.errors import AtlasError
from weight_atlas.evaluation.expansion import Expansion, variants_of
from weight_atlas.evaluation.quantized_models import layer_matrices, quantized_layers, weight_errors
from weight_atlas.evaluation.quantizers import Scheme, quantized
from weight_atlas.evaluation.restoring import Sink, super_activations_restored
from weight_atlas.evaluation.variants import applied, variant_from
from weight_atlas.evaluation.window_scores import score_variants
from weight_atlas.lm.anatomy import Coordinate, anatomy
from weight_atlas.lm.edits import edited, zero
from weight_atlas.lm.windows import Windows

TARGETS = [Coordinate(1, 5, 9, component="mlp.down_proj"), Coordinate(1, 5, 20, component="mlp.down_proj")]
PROMPT = torch.tensor([[1, 50, 60, 70, 80]])
ALL = {
    "weights": None, "zero": {}, "each": {}, "scale": {"factors": [0, 0.5, 2]}, "neurons": {}, "restore": {},
    "experts": {}, "random": {"draws": 3, "seed": 1}, "largest": {"count": 4},
    "quantize": {"formats": ["int4"], "granularities": ["tensor", "group:32"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def live():
    return anatomy(tiny("llama"))


def snapshot(live):
    return {name: parameter.clone() for name, parameter in live.model.named_parameters()}


def changed(live, before):
    """Logical places of W_down that differ from before, by layer."""
    places = []
    for name, now in live.model.named_parameters():
        for row, col in (now != before[name]).nonzero().tolist() if now.ndim == 2 else []:
            places.append((int(name.split(".")[2]), row, col))
    return places


def named(variants):
    return {variant.name.partition(": ")[2]: variant for variant in variants}


def test_every_kind_gives_its_variants_and_restores_every_bit(live):
    variants = variants_of("sw", ALL, live, TARGETS).variants
    assert [variant.kind for variant in variants] == (
        ["zero"]
        + ["each"] * 2
        + ["scale"] * 3
        + ["neurons", "restore"]
        + ["random"] * 3
        + ["largest"]
        + ["quantize"] * 4
    )
    assert len({variant.name for variant in variants}) == len(variants)
    before = snapshot(live)
    for variant in variants:
        with applied(live, variant, PROMPT):
            pass
        assert all(torch.equal(before[name], now) for name, now in live.model.named_parameters()), variant.name


def test_zeroing_reaches_the_weights_together_and_one_by_one(live):
    variants, before = named(variants_of("sw", ALL, live, TARGETS).variants), snapshot(live)
    with applied(live, variants["zeroed"], PROMPT):
        assert changed(live, before) == [(1, 5, 9), (1, 5, 20)]
        assert live.projections[1].matrix()[5, 9] == 0
    with applied(live, variants[f"only {TARGETS[1]}"], PROMPT):
        assert changed(live, before) == [(1, 5, 20)]
    with applied(live, variants["x 0.5"], PROMPT):
        assert live.projections[1].matrix()[5, 9] == before["model.layers.1.mlp.down_proj.weight"][5, 9] / 2
    with applied(live, variants["neurons zeroed"], PROMPT):
        assert {(layer, col) for layer, _, col in changed(live, before)} == {(1, 9), (1, 20)}
        assert not live.projections[1].matrix()[:, [9, 20]].any()


def test_random_controls_leave_the_targets_alone(live):
    variants, before = variants_of("sw", ALL, live, TARGETS).variants, snapshot(live)
    for variant in [variant for variant in variants if variant.kind == "random"]:
        with applied(live, variant, PROMPT):
            places = changed(live, before)
        assert len(places) == 2 and not {(1, 5, 9), (1, 5, 20)} & set(places)


def test_hand_given_weights_take_the_place_of_detected_ones(live):
    by_hand = {"weights": [{"layer": 2, "row": 1, "col": 3, "expert": None, "component": ""}], "zero": {}}
    (variant,) = variants_of("mine", by_hand, live, TARGETS).variants
    assert variant.edits[0].coordinate == Coordinate(2, 1, 3, component="mlp.down_proj")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({"layer": 2, "row": 64, "col": 3}, "lies outside its matrix"),
        ({"layer": 2, "row": 3, "col": 96}, "lies outside its matrix"),
        ({"layer": 4, "row": 3, "col": 9}, "no MLP output projection"),
        ({"layer": 1, "row": 3, "col": 9, "component": "mlp.other"}, "no MLP output projection"),
    ],
)
def test_weights_that_the_model_lacks_are_an_error(live, weight, message):
    with pytest.raises(AtlasError, match=message) as caught:
        variants_of("mine", {"weights": [weight], "zero": {}}, live, [])
    assert "outside" not in message or "64 rows and 96 columns" in caught.value.remedy


def test_without_super_weights_only_plain_quantization_is_left(live):
    variants = variants_of("sw", ALL, live, []).variants
    assert {variant.kind for variant in variants} == {"quantize"}
    assert not any(variant.spared for variant in variants)
    assert variants_of("baseline", {}, live, TARGETS).variants[0].kind == "baseline"


def test_a_description_says_all(live):
    for variant in variants_of("sw", ALL, live, TARGETS).variants:
        assert variant_from(json.loads(json.dumps(variant.description()))) == variant


def test_experts_are_removed_whole():
    live = anatomy(tiny("mixtral"))
    target = [Coordinate(1, 5, 9, 2, component=live.projections[1].component)]
    (variant,) = variants_of("sw", {"experts": {}}, live, target).variants
    with applied(live, variant, PROMPT):
        assert not live.projections[1].matrix(2).any() and live.projections[1].matrix(1).any()


def test_restored_activations_stay_at_the_sink_and_go_elsewhere():
    model = tiny("llama")
    live = anatomy(model)
    place = plant(live, 1, 5, 9)
    outputs = {}

    def keep(name):
        hook = live.projection(place).container.register_forward_hook(
            lambda module, inputs, output: outputs.update({name: (inputs[0].clone(), output.clone())})
        )
        with torch.no_grad():
            model(input_ids=PROMPT)
        hook.remove()

    keep("plain")
    with super_activations_restored(live, [Sink(place)], PROMPT):
        keep("restored")
    with edited(live, [zero(place)]):
        keep("zeroed")
    x, plain = outputs["plain"]
    contribution = live.projection(place).matrix()[place.row, place.col] * x[0, :, place.col]
    sinks = contribution.abs() > contribution.abs().max() / 2
    assert 0 < sinks.sum() < len(sinks)
    restored, zeroed = outputs["restored"][1][0, :, place.row], outputs["zeroed"][1][0, :, place.row]
    assert torch.allclose(restored[sinks], plain[0, sinks, place.row], atol=1e-4)
    assert torch.equal(restored[~sinks], zeroed[~sinks])


@pytest.mark.parametrize("layout", ["llama", "gpt2", "mixtral", "gpt_oss", "phi3"])
def test_quantization_reaches_all_matrices_but_no_others(layout):
    live = anatomy(tiny(layout))
    before = snapshot(live)
    with quantized_layers(live, Scheme("int4", "channel")):
        touched = {name for name, now in live.model.named_parameters() if not torch.equal(before[name], now)}
        expected = {
            name
            for name, weight in before.items()
            if weight.ndim >= 2 and ("layers." in name or ".h." in name)
            if not any(word in name for word in ("norm", "router", "mlp.gate.", "bias", "sinks"))
        }
        assert touched == expected
    assert all(torch.equal(before[name], now) for name, now in live.model.named_parameters())


def test_a_matrix_is_quantized_along_its_logical_rows():
    live = anatomy(tiny("gpt2"))
    stored = live.projections[0].matrix().clone()
    with quantized_layers(live, Scheme("int4", "channel")):
        assert torch.allclose(live.projections[0].matrix(), quantized(stored, Scheme("int4", "channel")))


def test_spared_weights_keep_their_value_and_count_in_the_errors(live):
    scheme = Scheme("int4", "tensor", clip=1.0)
    value = live.projections[1].matrix()[5, 9].item()
    originals = {name: view.clone() for _, name, view in layer_matrices(live, "W_down")}
    errors = weight_errors(live, scheme, TARGETS, "W_down").set_index("name")
    with quantized_layers(live, scheme, TARGETS, "W_down"):
        # As it would be kept beside the quantized weights, in 16 bits.
        assert live.projections[1].matrix()[5, 9].item() == float(np.float16(value)) != value
        for _, name, view in layer_matrices(live, "W_down"):
            difference = (view - originals[name]).double().numpy()
            assert errors.squared_error[name] == pytest.approx((difference**2).sum(), rel=1e-6)
    assert len(errors) == len(live.layers)


def test_windows_are_scored_under_every_variant(live):
    ids = torch.randint(3, 299, (3, 20), generator=torch.Generator().manual_seed(0))
    scored = torch.ones(ids.shape, dtype=torch.bool)
    scored[:, 0] = False
    expansion = variants_of("sw", {"scale": {"factors": [1, 0]}}, live, TARGETS)
    table, same = score_variants(live, Windows(ids, scored), expansion, PROMPT, batch_size=2)
    assert same == expansion
    with torch.no_grad():
        logits = live.model(input_ids=ids).logits.double()
    expected = -logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2).sum(1)
    assert table.nll[:3].to_numpy() == pytest.approx(expected.numpy(), rel=1e-5)
    assert list(table.variant.unique()) == ["sw: x 1", "sw: x 0"]
    assert (table.nll[3:].to_numpy() != table.nll[:3].to_numpy()).all()
    assert score_variants(live, Windows(ids, scored), Expansion([], []), PROMPT, batch_size=2)[0].empty
