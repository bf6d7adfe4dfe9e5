"""The published detection with its defects repaired, on a planted weight in every layout."""

import pytest
import torch
from lm_models import LAYOUTS, LISTED, plant, tiny

from weight_atlas.errors import AtlasError
from weight_atlas.lm.anatomy import anatomy
from weight_atlas.lm.edits import edited, set_to, value_at
from weight_atlas.lm.places import matrix_at
from weight_atlas.super_weights.artifact import artifact, coordinates_of, published_records
from weight_atlas.super_weights.published import spikes

IDS = torch.tensor([[1, 50, 60, 70, 80, 90, 100, 120]])


@pytest.mark.parametrize("layout", [*LAYOUTS, LISTED])
def test_the_planted_weight_is_found_in_logical_coordinates(layout):
    model = tiny(layout)
    live = anatomy(model)
    place = plant(live, 1, 9, 21)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    seen = spikes(live, IDS, threshold=20)
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
    seen = spikes(live, IDS, threshold=20)
    assert seen[seen.accepted][["iteration", "row", "col"]].to_numpy().tolist() == [[1, 9, 21], [2, 9, 35]]
    assert seen[seen.accepted].rho.tolist() == pytest.approx([0.6, 1.0], abs=0.02)


def test_a_weight_between_unrelated_spikes_is_not_accepted():
    """The output peak comes from a bias-like sum of many inputs; the largest input has a tiny weight to that row."""
    live = anatomy(tiny("llama"))
    place = plant(live, 1, 9, 21)
    matrix = matrix_at(live, place)
    matrix[9, 21] = 0.01
    assert not spikes(live, IDS, threshold=20).accepted.any()
    # Input and output both spike at the same token, but through other neurons' weights.
    plant(live, 1, 9, 35, activation=30, write=300)
    seen = spikes(live, IDS, threshold=20)
    assert not seen.accepted.any()
    assert spikes(live, IDS, threshold=20, min_rho=float("-inf")).accepted.any()


def test_a_random_model_has_none():
    for layout in ("llama", "gpt2", "mixtral"):
        live = anatomy(tiny(layout))
        seen = spikes(live, IDS, threshold=20)
        assert not seen.accepted.any()
        assert set(seen.iteration) == {1}
        assert artifact("m", published_records(live, seen), [], {})["verdict"] == "none found"


def test_nan_is_a_message_and_the_model_is_restored():
    live = anatomy(tiny("llama"))
    place = plant(live, 1, 9, 21)
    other = live.projections[2].coordinate(0, 0)
    with edited(live, [set_to(other, float("nan"))]), pytest.raises(AtlasError, match="not finite"):
        spikes(live, IDS, threshold=20)
    assert value_at(live, place) == 7.5


def test_an_artifact_of_another_schema_is_refused():
    with pytest.raises(AtlasError, match="schema 99"):
        coordinates_of({**artifact("m", [], [], {}), "schema": 99}, "file")
