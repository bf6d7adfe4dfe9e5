"""The survey of a model, its figures and its records of super weights."""

import numpy as np
import pytest
import torch
from live_models import drawn, plant, random_prompts, tiny, word_tokenizer

from weight_atlas.figures import super_weights as figures
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.edits import edited, zero
from weight_atlas.settings.super_weights import SuperWeights
from weight_atlas.super_weights.artifact import coordinates_of, name_on_disk
from weight_atlas.super_weights.detection import detect
from weight_atlas.super_weights.found_records import detected_records, merged
from weight_atlas.super_weights.recording import record
from weight_atlas.super_weights.survey import survey


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
    (weight,) = detected_records(live, recording, detect(live, recording, SuperWeights()), table)
    same = (table.tensor == weight["tensor"]) & (table.role == "W_down")
    same &= table.expert.isna() if place.expert is None else table.expert == place.expert
    (row,) = table[same].itertuples()
    assert load_piece(checkpoint, row)[weight["row"], weight["column"]].item() == weight["original_value"] == 7.5
    if place.expert is not None:
        assert weight["routed_tokens_count"] >= 3
        assert 0 < weight["p_active"] <= 1
        assert 0 < weight["co_spike_score"] <= 1 + 1e-9
    assert name_on_disk(live, place, None) == live.projection(place).parameter_name


def assert_residual_is_that_of_the_model(residual, live, tokenizer, texts):
    """Peaks, channels and medians beside the hidden states that transformers itself gives, a prompt at a time."""
    seen = {}
    for number, text in enumerate(texts):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            seen[number] = [h[0].double().numpy() for h in live.model(ids, output_hidden_states=True).hidden_states]
    prefixed = residual[residual.prefixed == residual.prefixed.max()]
    assert len(prefixed) == sum(len(states[0]) * len(states) for states in seen.values())
    for row in prefixed[prefixed.layer < prefixed.layer.max()].itertuples():  # the last state is after the final norm
        h = np.abs(seen[row.prompt][row.layer + 1])
        assert row.channel == h[row.position].argmax() and row.peak == pytest.approx(h[row.position].max(), rel=1e-5)
        every = np.sort(np.abs(np.concatenate([states[row.layer + 1].ravel() for states in seen.values()])))
        assert row.median == pytest.approx(every[(len(every) - 1) // 2], rel=1e-5)


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
    assert_residual_is_that_of_the_model(seen.residual, live, word_tokenizer(bos=bos), texts)
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
