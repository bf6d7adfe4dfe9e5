"""Super experts removed beside random experts of their layers, against a plain model edited by hand."""

import copy

import pandas as pd
import pytest
import torch
from live_models import own_text, plant, tiny

from weight_atlas.ablations.choices import Choices
from weight_atlas.ablations.perplexity import perplexity_table
from weight_atlas.ablations.variants import variants_of
from weight_atlas.ablations.window_scores import score_variants
from weight_atlas.interventions.intervention import applied
from weight_atlas.live.anatomy import anatomy
from weight_atlas.settings.super_weights import ExpertRouting
from weight_atlas.super_weights.expert_table import expert_table
from weight_atlas.workflow.configuration import configured

IDS = torch.tensor([[1, 50, 60, 70, 80, 90]])


def table_of(live, chosen):
    """A table of experts, of which those (layer, expert) are super experts."""
    rows = [
        {"layer": p.layer, "component": p.component, "expert": expert, "super_expert": (p.layer, expert) in chosen}
        for p in live.projections
        for expert in p.experts
    ]
    return pd.DataFrame(rows)


def zeroed_by_hand(model, chosen):
    model = copy.deepcopy(model)
    for layer, expert in chosen:
        experts = model.model.layers[layer].mlp.experts
        experts.down_proj[expert] = 0
        if hasattr(experts, "down_proj_bias"):
            experts.down_proj_bias[expert] = 0
    return model


@pytest.mark.parametrize("layout", ["mixtral", "gpt_oss", "qwen3_moe", "deepseek_v3"])
def test_all_super_experts_go_at_once_and_as_many_others_of_their_layers(layout):
    model = tiny(layout)
    for name, parameter in model.named_parameters():
        if name.endswith("down_proj_bias"):
            torch.nn.init.normal_(parameter)
    live, chosen = anatomy(model), [(1, 2), (3, 0), (3, 1)]
    settings = {"super_experts": {"draws": 4, "seed": 2}}
    removed, *random = variants_of("a", settings, live, [], experts=table_of(live, chosen)).variants
    assert removed.name == "a: 3 super experts removed" and removed.kind == "super_experts"
    with applied(live, removed):
        assert torch.equal(model(IDS).logits, zeroed_by_hand(model, chosen)(IDS).logits)
    assert [(one.kind, one.draw) for one in random] == [("random_experts", draw) for draw in range(1, 5)]
    places = [{(place.layer, place.expert) for place in one.change.places} for one in random]
    for drawn in places:
        assert sorted(layer for layer, _ in drawn) == [1, 3, 3] and not drawn & set(chosen)
    assert len({frozenset(drawn) for drawn in places}) > 1
    again = variants_of("a", settings, live, [], experts=table_of(live, chosen)).variants
    assert [one.change for one in again] == [one.change for one in [removed, *random]]


def test_a_layer_without_others_gives_no_draws():
    live = anatomy(tiny("mixtral"))
    table = table_of(live, [(1, 0), (1, 1), (1, 2)])
    (only,) = variants_of("a", {"super_experts": {}}, live, [], experts=table).variants
    assert only.kind == "super_experts"


def test_what_has_no_super_experts_is_said_where_it_was_asked_for_alone():
    dense, mixture = anatomy(tiny("llama")), anatomy(tiny("mixtral"))
    place = [dense.projections[1].coordinate(1, 2)]
    beside = variants_of("a", {"zero": {}, "super_experts": {}}, dense, place)
    assert [one.kind for one in beside.variants] == ["zero"] and not beside.skipped
    alone = variants_of("a", {"super_experts": {}}, dense, [])
    assert not alone.variants and "no mixture of experts" in alone.skipped[0].reason
    none = variants_of("a", {"zero": {}, "super_experts": {}}, mixture, [], experts=table_of(mixture, []))
    assert "none of its experts" in none.skipped[1].reason


def test_a_planted_super_expert_is_found_and_its_loss_collapses():
    live = anatomy(tiny("mixtral", sharp=True))
    place = plant(live, 1, 5, 9)
    windows = own_text(live)
    settings = ExpertRouting(min_tokens=1, p_active_floor=0.0)
    table = expert_table(live, windows, settings)
    assert table[table.super_expert][["layer", "expert"]].to_numpy().tolist() == [[1, place.expert]]
    expansion = variants_of("a", {"super_experts": {"draws": 3}}, live, [], experts=table)
    scores, left = score_variants(live, windows, expansion, batch_size=4)
    baseline, _ = score_variants(live, windows, variants_of("baseline", {}, live, []), batch_size=4)
    rows = perplexity_table("text", baseline, [({**left.description("a"), "targets": "given"}, scores)])
    ratio = rows.set_index("variant").ratio
    assert ratio["a: super expert removed"] > 10 > ratio[ratio.index.str.contains("random")].max()


def test_the_default_ablation_reads_which_experts_are_super_experts():
    choices = Choices(configured({"models": {"m": {"source": "bundled:demo"}}}, "c"))
    patterns = {"super_weights": "found", "inventory": "tensors", "expert_routing": "experts"}
    files = choices.weight_files("m", "super_weights", patterns)
    assert files == {"expert_routing": "experts", "super_weights": "found"}
    given = {"ablations": {"mine": {"super_experts": {}}}, "models": {"m": {"source": "bundled:demo"}}}
    assert Choices(configured(given, "c")).weight_files("m", "mine", patterns) == {"expert_routing": "experts"}
