"""The published detection with its defects repaired, on a planted weight in every layout."""

from importlib import resources
from types import SimpleNamespace

import pytest
import torch
import yaml
from live_models import LISTED, layouts, plant, tiny, word_tokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.edits import edited, set_to, value_at
from weight_atlas.live.matrices import matrix_at
from weight_atlas.settings.super_weights import SuperWeights
from weight_atlas.super_weights.artifact import artifact, coordinates_of
from weight_atlas.super_weights.found_records import published_records
from weight_atlas.super_weights.published import family_threshold, spikes
from weight_atlas.super_weights.survey import survey

IDS = torch.tensor([[1, 50, 60, 70, 80, 90, 100, 120]])


@pytest.mark.parametrize("layout", layouts(LISTED))
def test_the_planted_weight_is_found_in_logical_coordinates(layout):
    model = tiny(layout)
    live = anatomy(model)
    place = plant(live, 1, 9, 21)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    seen = spikes(live, IDS, SuperWeights(), threshold=20)
    found = seen[seen.accepted]
    assert len(found) == 1
    weight = next(found.itertuples())
    assert (weight.layer, weight.row, weight.col, weight.iteration, weight.token) == (1, 9, 21, 1, 0)
    assert weight.weight == value_at(live, place) == 7.5
    assert weight.rho == pytest.approx(1, abs=0.01)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    (coordinate,) = coordinates_of(artifact("m", published_records(live, seen), [], {}), "file")
    assert coordinate == place


def test_two_weights_that_feed_one_row_need_two_rounds():
    live = anatomy(tiny("llama"))
    plant(live, 1, 9, 21, write=300)
    plant(live, 1, 9, 35, activation=39, write=200)
    seen = spikes(live, IDS, SuperWeights(), threshold=20)
    assert seen[seen.accepted][["iteration", "row", "col"]].to_numpy().tolist() == [[1, 9, 21], [2, 9, 35]]
    assert seen[seen.accepted].rho.tolist() == pytest.approx([0.6, 1.0], abs=0.02)


def test_the_rounds_are_limited():
    live = anatomy(tiny("llama"))
    plant(live, 1, 9, 21, write=300)
    plant(live, 1, 9, 35, activation=39, write=200)
    seen = spikes(live, IDS, SuperWeights(max_iterations=1), threshold=20)
    assert set(seen.iteration) == {1} and seen.accepted.sum() == 1
    assert set(spikes(live, IDS, SuperWeights(), threshold=20).iteration) == {1, 2, 3}


def test_both_peaks_must_exceed_the_threshold():
    live = anatomy(tiny("llama"))
    plant(live, 1, 9, 21)  # an input of about 40, an output of about 300
    assert spikes(live, IDS, SuperWeights(), threshold=35).accepted.any()
    assert not spikes(live, IDS, SuperWeights(), threshold=45).accepted.any()
    plant(live, 1, 9, 21, activation=300, write=40)
    assert spikes(live, IDS, SuperWeights(), threshold=35).accepted.any()
    assert not spikes(live, IDS, SuperWeights(), threshold=45).accepted.any()


@pytest.mark.parametrize(
    ("model_type", "threshold", "why"),
    [
        ("llama", 120, "lineage llama"), ("llama4_text", 120, "lineage llama"), ("mistral", 100, "lineage mistral"),
        ("mixtral", 100, "lineage mistral"), ("ministral", 100, "lineage mistral"), ("olmo", 70, "lineage olmo"),
        ("olmo2", 70, "lineage olmo"), ("olmo3", 70, "lineage olmo"), ("olmoe", 70, "lineage olmo"),
        ("phi3", 150, "lineage phi"), ("phimoe", 150, "lineage phi"), ("gpt2", 50, "none of its own"),
        ("qwen2", 50, "none of its own"),
    ],
)  # fmt: skip
def test_the_threshold_of_a_family_and_why(model_type, threshold, why):
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(model_type=model_type)))
    value, reason = family_threshold(SimpleNamespace(model=model))
    assert value == threshold
    assert f"model type {model_type}" in reason and why in reason


def test_model_types_of_the_thresholds_are_listed_once():
    table = yaml.safe_load((resources.files("weight_atlas.super_weights") / "spike_thresholds.yaml").read_text())
    types = [each for row in table["lineages"].values() for each in row["model_types"]]
    assert len(types) == len(set(types))


def test_weights_of_experts_carry_what_the_router_did():
    live = anatomy(tiny("mixtral"))
    place = plant(live, 1, 9, 21)
    settings = SuperWeights(prompts=["one two three four"], method="published", spike_threshold=20.0)
    seen = survey(live, word_tokenizer(bos=True), None, settings, model="m", source="x")
    (row,) = seen.table.itertuples()
    assert (row.expert_id, row.column) == (place.expert, place.col)
    assert row.routed_tokens_count >= 1 and 0 < row.p_active <= 1 and 0 < row.co_spike_score <= 1 + 1e-9
    assert seen.artifact["settings"]["spike_threshold_from"] == "the configuration"
    settings = SuperWeights(prompts=["one two three four"])
    default = survey(live, word_tokenizer(bos=True), None, settings, model="m", source="x")
    assert default.artifact["settings"]["spike_threshold"] == 100
    assert "mixtral, of the lineage mistral" in default.artifact["settings"]["spike_threshold_from"]


def test_a_weight_between_unrelated_spikes_is_not_accepted():
    """The output peak comes from a bias-like sum of many inputs; the largest input has a tiny weight to that row."""
    live = anatomy(tiny("llama"))
    place = plant(live, 1, 9, 21)
    matrix = matrix_at(live, place)
    matrix[9, 21] = 0.01
    assert not spikes(live, IDS, SuperWeights(), threshold=20).accepted.any()
    # Input and output both spike at the same token, but through other neurons' weights.
    plant(live, 1, 9, 35, activation=30, write=300)
    seen = spikes(live, IDS, SuperWeights(), threshold=20)
    assert not seen.accepted.any()
    assert spikes(live, IDS, SuperWeights(min_rho=-1e9), threshold=20).accepted.any()


def test_a_random_model_has_none():
    for layout in ("llama", "gpt2", "mixtral"):
        live = anatomy(tiny(layout))
        seen = spikes(live, IDS, SuperWeights(), threshold=20)
        assert not seen.accepted.any()
        assert set(seen.iteration) == {1}
        assert artifact("m", published_records(live, seen), [], {})["verdict"] == "none found"


def test_nan_is_a_message_and_the_model_is_restored():
    live = anatomy(tiny("llama"))
    place = plant(live, 1, 9, 21)
    other = live.projections[2].coordinate(0, 0)
    with edited(live, [set_to(other, float("nan"))]), pytest.raises(AtlasError, match="not finite"):
        spikes(live, IDS, SuperWeights(), threshold=20)
    assert value_at(live, place) == 7.5


def test_an_artifact_of_another_schema_is_refused():
    with pytest.raises(AtlasError, match="schema 99"):
        coordinates_of({**artifact("m", [], [], {}), "schema": 99}, "file")
