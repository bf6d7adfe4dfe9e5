"""Models of routed and shared experts through the whole chain: scan, cards, interventions, cascade, tables."""

import json

import live_models
import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.families.inventory import inventory
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.edits import edited, value_at, zero
from weight_atlas.live.windows import Windows
from weight_atlas.settings.vocabulary import Interventions, NeuronLabels, SuperWeightCards
from weight_atlas.vocabulary.cascade import cascade
from weight_atlas.vocabulary.interventions import measure_interventions
from weight_atlas.vocabulary.labels import label_neurons
from weight_atlas.vocabulary.neuron_cards import cards_frame, cards_of, cards_table
from weight_atlas.vocabulary.neuron_scan import prepare, scan
from weight_atlas.vocabulary.neurons import neuron_blocks
from weight_atlas.vocabulary.prediction_measures import METRICS, prediction_measure
from weight_atlas.vocabulary.readout import read_readout
from weight_atlas.vocabulary.selection import select_neurons
from weight_atlas.vocabulary.summary import summarise_classes, summarise_models
from weight_atlas.vocabulary.super_weight_cards import weight_cards, weights_table
from weight_atlas.vocabulary.target_coordinates import coordinates_of
from weight_atlas.vocabulary.targets import find_targets
from weight_atlas.vocabulary.token_classes import text_tokens, token_classes

LAYER = 1


@pytest.fixture(scope="module", params=["gpt_oss", "deepseek_v2", "qwen2_moe"])
def made(request, tmp_path_factory):
    live = anatomy(live_models.tiny(request.param, sharp=True))
    folder = tmp_path_factory.mktemp(request.param)
    live.model.save_pretrained(folder)
    checkpoint = Checkpoint.from_folder(folder)
    rows = inventory(checkpoint)
    texts = ["<s>", "\r", "a\rb", *map(str, range(100)), *(f" word{chr(97 + i % 26)}" for i in range(197))]
    tokens = token_classes(texts, texts, {0})

    ids = torch.randint(5, 300, (4, 12), generator=torch.Generator().manual_seed(0))
    scored = torch.ones_like(ids, dtype=torch.bool)
    scored[0, 0], scored[1:, :6] = False, False
    windows = Windows(ids, scored)
    # One weight of an expert that tokens are routed to, and one of the shared expert where there is one.
    places = []
    for projection in live.projections:
        if projection.layer == LAYER:
            expert = busiest(live, projection, ids) if projection.stacked else None
            places.append(projection.coordinate(2, 3, expert))
    found = [
        {"layer": place.layer, "row": 2, "column": 3, "expert_id": place.expert, "component": place.component}
        for place in places
    ]
    readout = read_readout(checkpoint, rows)
    table = scan(prepare(readout, text_tokens(tokens)), neuron_blocks(checkpoint, rows, readout), k=4)
    table["label"] = label_neurons(table, NeuronLabels(), n_layers=4, d_model=64)
    chosen = select_neurons(table, found, top_k=1, order="low_cosine_kurtosis")
    neurons, effects = cards_of(checkpoint, rows, tokens, chosen, tokens=5)
    targets = find_targets(checkpoint, rows, found)
    measure = prediction_measure(torch.tensor([7, 8]))
    measured = measure_interventions(
        live,
        windows,
        coordinates_of(targets),
        measure,
        Interventions(draws=4, shift_draws=3),
        factor=0.0,
        control_windows=2,
    )
    averages = cascade(live, windows, coordinates_of(targets), factor=0.0, k=2)
    inputs = (measured.windows, measured.changes, averages, tokens)
    weights, moved = weight_cards(
        checkpoint, rows, {"factor": 0.0, "targets": targets}, *inputs, SuperWeightCards(bootstrap=20)
    )
    return live, windows, places, table, neurons, effects, weights, moved, measured, folder


def busiest(live, projection, ids):
    seen = []

    def see(module, inputs, keywords):
        given = [value for value in (*inputs, *keywords.values()) if isinstance(value, torch.Tensor)]
        seen.append(next(value for value in given if not value.is_floating_point()))

    hook = projection.container.register_forward_pre_hook(see, with_kwargs=True)
    live.model(ids)
    hook.remove()
    return int(torch.bincount(seen[0].flatten()).argmax())


def test_neurons_of_super_weights_are_those_of_their_expert(made):
    live, _, places, table, neurons, effects, *_ = made
    assert {"cos_mean", "cos_var", "cos_skew", "cos_kurt"} <= set(table.columns)
    owners = [card for card in neurons if card["super_weights"]]
    assert len(owners) == len(places) and len(effects) == len(neurons)
    for place in places:
        shared = "shared" in place.component
        (card,) = [c for c in owners if c["expert"] == place.expert and ("shared" in c["component"]) == shared]
        assert (card["layer"], card["neuron"]) == (LAYER, 3) and card["selected_by"].startswith("super weight")
        assert card["super_weights"][0]["weight"] == pytest.approx(value_at(live, place), abs=1e-6)
        row = table[(table.layer == LAYER) & (table.neuron == 3)]
        row = row[row.expert.isna() if place.expert is None else row.expert == place.expert].iloc[0]
        assert card["moments_cos"]["kurt"] == pytest.approx(row.cos_kurt, rel=1e-3)
        assert card["norm"] == pytest.approx(row.norm, rel=1e-5)


def test_interventions_on_experts_are_plain_edits(made):
    live, windows, places, *_, weights, _, measured, _ = made
    base = live.model(windows.ids).logits.double().log_softmax(-1)
    for number, place in enumerate(places):
        with edited(live, [zero(place)]):
            after = live.model(windows.ids).logits.double().log_softmax(-1)
        window, position = windows.scored.nonzero(as_tuple=True)
        change = (base - after)[window, position - 1, windows.ids[window, position]].mean()
        card = weights[number]
        assert card["deltas"]["loss"] == pytest.approx(float(change), abs=1e-5)
        assert card["controls"]["no_op_delta"] == dict.fromkeys(METRICS, 0.0)
        assert (card["expert"], card["row"], card["col"]) == (place.expert, 2, 3)
        reached = card["routed_tokens_count"]
        assert reached is None if place.expert is None else 0 < reached <= windows.ids.numel()
        rows = measured.windows[measured.windows.target == number]
        assert (rows.expert.isna() if place.expert is None else rows.expert == place.expert).all()
        assert rows.groupby("kind").draw.nunique().to_dict() == {
            "edit": 1, "mean_contribution": 1, "neuron_zero": 1, "no_op": 1, "random_coord": 4, "random_shift": 3,
        }  # fmt: skip
        assert card["cascade"]["layers"] == [1, 2, 3] and card["cascade"]["kl"][-1] > 0
        kl = (base.exp() * (base - after)).sum(-1)
        predicting = torch.nn.functional.pad(windows.scored[:, 1:], (0, 1))
        assert card["cascade"]["kl"][-1] == pytest.approx(float(kl[predicting].mean()), rel=1e-3)


def test_tables_survive(made, tmp_path):
    _, _, places, _, neurons, _, weights, moved, _, folder = made
    neurons = [{"model": "m", **card} for card in neurons]
    weights = [{"model": "m", **card} for card in weights]
    write_table(tmp_path / "neurons.csv", cards_table(neurons))
    flat = read_table(tmp_path / "neurons.csv")
    assert len(flat) == len(neurons)
    for cell, card in zip(flat.top_tokens_up, neurons, strict=True):
        assert json.loads(cell) == [token["str"] for token in card["top_tokens_up"]]
    write_table(tmp_path / "neurons.jsonl", cards_frame(neurons))
    again = read_table(tmp_path / "neurons.jsonl").to_dict("records")
    assert again[0]["enrichment"] == neurons[0]["enrichment"]
    write_table(tmp_path / "weights.csv", weights_table(weights))
    table = read_table(tmp_path / "weights.csv")
    np.testing.assert_array_equal(table.delta_loss, [card["deltas"]["loss"] for card in weights])
    assert table.routed_tokens_count.isna().tolist() == [place.expert is None for place in places]
    assert len(moved) == 300 * len(places)
    readout = read_readout(Checkpoint.from_folder(folder), inventory(Checkpoint.from_folder(folder)))
    for number, card in enumerate(weights):
        # Removing a weight takes away its direct effect.
        gone = -readout.unembedding[:, card["row"]].double() * card["original_value"]
        np.testing.assert_allclose(moved.direct_effect[moved.target == number], gone, rtol=1e-4, atol=1e-7)
    models = summarise_models({}, {"m": again}, {"m": table})
    assert models.weights_intervened[0] == len(places)
    assert set(summarise_classes({"m": again}, 0.05)["class"]) == {"digits", "leading_space"}
    assert pd.notna(models.strongest_null_ratio[0])
