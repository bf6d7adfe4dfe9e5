"""Massive activations planted in every place, against plain transformers with hooks; a healthy model has none."""

import numpy as np
import pytest
import torch
from live_models import LAYOUTS, drawn, own_text, plant, plant_in_attention, tiny, word_tokenizer

from weight_atlas.figures.massive_activations import massive_activations as figure_of
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.settings.super_weights import MassiveActivations
from weight_atlas.super_weights.massive_report import massive_report_of
from weight_atlas.super_weights.massive_sites import trace
from weight_atlas.super_weights.stages import massive_channels, stage_peaks

CHANNEL, NEURON = 9, 21
TOKENIZER = word_tokenizer(bos=True)


def live_of(layout="llama", **changes):
    return anatomy(tiny(layout, sharp=True, attn_implementation="eager", **changes))


def quiet(live):
    """Let no token learn of another, so that an activation stays where it was planted."""
    for layer in live.layers:
        layer.self_attn.o_proj.weight.data *= 1e-5
    return live


def report_of(live, super_weights=(), **settings):
    windows = own_text(live, windows=3, length=24)
    return massive_report_of(
        live, TOKENIZER, windows, list(super_weights), MassiveActivations(**settings), "m"
    ), windows


def streams(live, ids):
    """The stream before the first layer, after attention and after each layer, by hooks of this test: a plain Llama."""
    seen = {}
    handles = []
    for number, layer in enumerate(live.model.model.layers):
        handles.append(layer.register_forward_pre_hook(lambda m, i, n=number: seen.__setitem__((n, "before"), i[0][0])))
        norm = layer.post_attention_layernorm
        handles.append(norm.register_forward_pre_hook(lambda m, i, n=number: seen.__setitem__((n, "middle"), i[0][0])))
        handles.append(layer.register_forward_hook(lambda m, i, o, n=number: seen.__setitem__((n, "after"), o[0])))
    handles.append(live.model.model.norm.register_forward_hook(lambda m, i, o: seen.__setitem__("norm", o[0])))
    with torch.no_grad():
        live.model(ids)
    for handle in handles:
        handle.remove()
    return seen


def loss(live, windows):
    """Nats per token by plain transformers, in float64."""
    with torch.no_grad():
        logits = live.model(windows.ids).logits.double()[:, :-1]
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), windows.ids[:, 1:], reduction="none")
    return float(each[windows.scored[:, 1:]].mean())


@pytest.mark.slow
def test_the_sites_of_a_planted_activation_are_those_that_hooks_see():
    live = quiet(live_of())
    place = plant(live, 1, CHANNEL, NEURON)
    # A neuron of layer 3 that fires on the massive channel and writes most of it away again.
    mlp = live.model.model.layers[3].mlp
    for matrix in (mlp.gate_proj.weight.data, mlp.up_proj.weight.data):
        matrix[40] = 0
        matrix[40, CHANNEL] = 1.0
    mlp.down_proj.weight.data[:, 40] = 0
    mlp.down_proj.weight.data[CHANNEL, 40] = -4.0
    report, windows = report_of(live, [place])
    sites = report.sites[report.sites.channel == CHANNEL]
    row = sites.iloc[0]
    assert (row.position, row.token_id, row.token) == (0, 1, "<s>") and row.tokens == 3
    seen = streams(live, windows.ids[:1])
    for each in sites.itertuples():
        if each.site == "attention":
            expected = seen[each.layer, "before"], seen[each.layer, "middle"]
        elif each.site == "MLP":
            expected = seen[each.layer, "middle"], seen[each.layer, "after"]
        elif each.site == "final norm":
            assert each.after == pytest.approx(float(seen["norm"][0, CHANNEL]), rel=1e-4) and np.isnan(each.added)
            continue
        else:
            assert each.after == pytest.approx(float(seen[0, "before"][0, CHANNEL]), rel=1e-4)
            continue
        before, after = (float(stream[0, CHANNEL]) for stream in expected)
        assert (each.before, each.after) == (pytest.approx(before, abs=1e-3), pytest.approx(after, abs=1e-3))
    events = [(each.layer, each.site, each.event) for each in sites.itertuples() if each.event]
    assert events == [(1, "MLP", "arises"), (3, "MLP", "removed")]
    last = float(seen[3, "after"].abs()[:, CHANNEL].max() / seen[3, "after"].abs().median())
    of_last = [each.ratio for each in sites.itertuples() if (each.layer, each.site) == (3, "MLP")]
    assert max(of_last) >= last * (1 - 1e-4)
    own = report.weights[report.weights.channel == CHANNEL].set_index(["layer", "row", "column"])
    writer, remover = own.loc[1, CHANNEL, NEURON], own.loc[3, CHANNEL, 40]
    assert (writer.effect, remover.effect) == ("writes", "removes")
    assert writer.share > 0.95 and remover.share > 0.95 and remover.contribution < 0 < writer.contribution
    before = loss(live, windows)
    for weight, (layer, column) in ((writer, (1, NEURON)), (remover, (3, 40))):
        matrix = live.model.model.layers[layer].mlp.down_proj.weight.data
        stored = float(matrix[CHANNEL, column])
        assert weight.weight == pytest.approx(stored)
        matrix[CHANNEL, column] = 0
        assert weight.delta_nll == pytest.approx(loss(live, windows) - before, rel=1e-3, abs=1e-5)
        without = float(streams(live, windows.ids[:1])[layer, "after"][0, CHANNEL])
        assert weight.value_without == pytest.approx(without, rel=1e-3, abs=1e-3)
        matrix[CHANNEL, column] = stored
    assert writer.null_draws == 10 and loss(live, windows) == before
    assert "removed" in drawn(figure_of(report.sites, report.heads, "")) or report.heads is not None


def test_a_weight_of_attention_is_named():
    live = quiet(live_of())
    column, projection = plant_in_attention(live, 1, CHANNEL), live.layers[1].self_attn.o_proj
    report, windows = report_of(live)
    events = report.sites[(report.sites.channel == CHANNEL) & (report.sites.event == "arises")]
    assert events[["layer", "site"]].to_numpy().tolist() == [[1, "attention"]]
    row = report.weights[report.weights.channel == CHANNEL].iloc[0]
    assert (row.role, row.layer, row.row, row.column) == ("W_O", 1, CHANNEL, column)
    assert row.share == pytest.approx(1, abs=0.05) and row.contribution == pytest.approx(300, rel=0.05)
    before = loss(live, windows)
    projection.weight.data[CHANNEL, column] = 0
    assert row.delta_nll == pytest.approx(loss(live, windows) - before, rel=1e-3)
    texts = [each["text"] for each in report.artifact["findings"]]
    assert texts[0].startswith(f"Layer 1 W_O self_attn.o_proj [{CHANNEL}, {column}] writes the massive activation")
    assert report.artifact["findings"][0]["grade"] == "critical"
    assert any("super activation (Yu et al. 2024): no (no detected super weight writes it)" in text for text in texts)


def test_a_weight_of_the_last_layer_is_named_before_and_after_the_final_norm():
    live = quiet(live_of())
    plant(live, 3, CHANNEL, NEURON)
    report, windows = report_of(live)
    sites = report.sites[report.sites.channel == CHANNEL].set_index("site")
    assert (sites.event == "arises").sum() == 1 and sites.loc["final norm"].before == pytest.approx(300, rel=0.02)
    norm = streams(live, windows.ids[:1])["norm"]
    assert sites.loc["final norm"].after == pytest.approx(float(norm[0, CHANNEL]), rel=1e-3)
    row = report.weights[report.weights.channel == CHANNEL].iloc[0]
    assert (row.role, row.layer, row.row, row.column) == ("W_down", 3, CHANNEL, NEURON)
    assert row.value == pytest.approx(300, rel=0.02) and abs(row.value_without) < 5
    (text,) = [each["text"] for each in report.artifact["findings"] if each["text"].startswith("Massive")]
    assert f"channel {CHANNEL} of token '<s>' arises in MLP of layer 3" in text


@pytest.mark.slow
def test_a_scalar_and_a_column_of_the_embedding_are_told_apart():
    live = quiet(live_of())
    live.model.get_input_embeddings().weight.data[1, CHANNEL] = 300.0
    report, _ = report_of(live)
    row = report.weights[report.weights.channel == CHANNEL].iloc[0]
    assert (row.role, row.layer, row.row, row.column, row.weight) == ("W_E", -1, 1, CHANNEL, 300)
    assert report.artifact["everywhere"] == [] and (report.heads.on == "massive activations").all()
    live = quiet(live_of())
    live.model.get_input_embeddings().weight.data[:, CHANNEL] = 300.0
    report, _ = report_of(live)
    row = report.weights[report.weights.channel == CHANNEL].iloc[0]
    assert row.role == "W_E" and row.row is None and row.column == CHANNEL
    assert report.artifact["everywhere"] == [CHANNEL] and (report.heads.on == "first token").all()
    assert row.value_without == 0 and row.null_draws == 0


def test_of_a_healthy_model_nothing_is_claimed():
    live = live_of()
    report, windows = report_of(live)
    assert report.sites.empty and report.weights.empty and not report.definitions.applies.any()
    row = report.definitions.iloc[0]
    stages = [live.model.model.embed_tokens(windows.ids)]
    with torch.no_grad():
        stages += live.model(windows.ids, output_hidden_states=True).hidden_states[1:-1]
    largest = max(float((h.abs().amax((1, 2)) / h.abs().flatten(1).median(1).values).max()) for h in stages)
    assert row.ratio >= largest * (1 - 1e-5) and row.ratio < 50
    grades = {each["grade"] for each in report.artifact["findings"]}
    assert grades == {"info"} and report.artifact["findings"][0]["text"].startswith("No massive activation")
    assert "no massive activation in this text" in drawn(figure_of(report.sites, report.heads, ""))


def test_published_definitions_with_their_numbers():
    live = quiet(live_of())
    place = plant(live, 1, CHANNEL, NEURON)
    report, windows = report_of(live, [place])
    table = report.definitions[report.definitions.channel == CHANNEL].set_index("definition")
    massive, activation, weight = (
        table.loc[name] for name in ("massive activation", "super activation", "super weight")
    )
    assert massive.applies and massive.value == pytest.approx(300, rel=0.02) and massive.ratio > 1000
    assert activation.applies and activation.persistence == 1 and activation.remaining < 0.02
    before = loss(live, windows)
    matrix = live.model.model.layers[1].mlp.down_proj.weight.data
    matrix[CHANNEL, NEURON] = 0
    factor = np.exp(loss(live, windows) - before)
    assert weight.perplexity_ratio == pytest.approx(factor, rel=1e-2) and weight.applies == (factor > 10)
    (expert,) = report.definitions[report.definitions.definition == "super expert"].itertuples()
    assert not expert.applies and expert.reason == "the model has no experts"
    assert report.artifact["definitions"]["super activation"]


@pytest.mark.slow
def test_a_super_expert_is_told_from_the_others():
    live = anatomy(tiny("mixtral", sharp=True, attn_implementation="eager"))
    place = plant(live, 1, CHANNEL, NEURON)
    report, _ = report_of(live, [place])
    experts = report.definitions[report.definitions.definition == "super expert"]
    assert experts[experts.applies].place.tolist() == [f"layer 1 expert {place.expert}"]
    assert (experts.ratio > 1).all()


@pytest.mark.parametrize("layout", ["olmo2", "gpt2", "gpt_neox", "phi3", "granitemoe", "cohere"])
def test_sites_add_up_whatever_the_layers_order(layout):
    live = anatomy(tiny(layout, attn_implementation="eager"))
    plant(live, 1, CHANNEL, NEURON)
    windows = own_text(live, windows=2, length=12)
    channels = [each for each in massive_channels(stage_peaks(live, windows), ratio=50) if each.channel == CHANNEL]
    sites = trace(live, windows, channels)
    # No family here normalizes the stream itself: attention and MLPs explain each step.
    assert {site.site for site in sites} <= {"embedding", "attention", "MLP", "final norm"}
    (arises,) = [site for site in sites if site.event == "arises"]
    assert (arises.layer, arises.site) == (1, "MLP") and arises.written.strongest[0].coordinate.col == NEURON


def test_a_budget_bounds_what_is_removed():
    live = quiet(live_of())
    plant(live, 1, CHANNEL, NEURON)
    live.model.get_input_embeddings().weight.data[1, 40] = 250.0
    report, _ = report_of(live, removals=1, draws=0)
    assert len(report.weights) >= 2 and report.weights.delta_nll.notna().sum() == 1
    none, _ = report_of(live, removals=0)
    assert none.weights.delta_nll.isna().all() and len(none.weights) == len(report.weights)


@pytest.mark.slow
def test_an_embedding_of_positions_is_named():
    live = anatomy(tiny("gpt2", sharp=True, attn_implementation="eager"))
    live.model.transformer.wpe.weight.data[0, CHANNEL] = 300.0
    report, _ = report_of(live)
    row = report.weights[report.weights.channel == CHANNEL].iloc[0]
    assert (row.role, row.layer, row.row, row.column) == ("W_pos", -1, 0, CHANNEL)
    assert row.share == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_experts_are_named_by_their_own_weight():
    for layout in ("mixtral", "gpt_oss"):
        assert layout in LAYOUTS
        live = anatomy(tiny(layout, sharp=True, attn_implementation="eager"))
        place = plant(live, 1, CHANNEL, NEURON)
        report, _ = report_of(live, removals=1, draws=2)
        row = report.weights.iloc[0]
        found = Coordinate(row.layer, row.row, row.column, int(row.expert), row.role, row.component)
        assert found == place
