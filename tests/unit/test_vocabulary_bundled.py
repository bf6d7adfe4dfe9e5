"""The bundled model's planted super weight stands far outside its controls, whatever is measured of it."""

from pathlib import Path

import pytest

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.families.inventory import inventory
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.load import load_model
from weight_atlas.settings.vocabulary import Interventions, SuperWeightCards, Windows
from weight_atlas.tokens.python_docs import python_docs
from weight_atlas.tokens.tokenizer import load_tokenizer, token_texts
from weight_atlas.vocabulary.cascade import cascade
from weight_atlas.vocabulary.interventions import measure_interventions
from weight_atlas.vocabulary.prediction_measures import METRICS, prediction_measure, stop_words
from weight_atlas.vocabulary.super_weight_cards import weight_cards
from weight_atlas.vocabulary.target_coordinates import coordinates_of
from weight_atlas.vocabulary.targets import find_targets
from weight_atlas.vocabulary.token_classes import read_token_classes
from weight_atlas.vocabulary.windows import sliding_windows

MODEL = Path(__file__).parents[2] / "src/weight_atlas/data/demo/model"


@pytest.mark.slow
def test_the_planted_weight_of_the_bundled_model():
    checkpoint = Checkpoint.from_folder(MODEL)
    rows, tokenizer = inventory(checkpoint), load_tokenizer(checkpoint.folder, trust_remote_code=False)
    live = anatomy(load_model(checkpoint, trust_remote_code=False, dtype="auto"))
    targets = find_targets(checkpoint, rows, coordinates=[[1, 7, 11]])
    places = coordinates_of(targets)
    windows, _ = sliding_windows(
        python_docs("test"), tokenizer, Windows(window_len=128, tokens=3000), context=live.context, where="bundled"
    )
    classes = read_token_classes(tokenizer, token_texts(tokenizer, 2048))
    measure = prediction_measure(stop_words(live.model, classes))
    found = measure_interventions(
        live, windows, places, measure, Interventions(draws=50), factor=0.0, control_windows=8
    )
    averages = cascade(live, windows.first(4), places, factor=0.0, k=2)
    (card,), moved = weight_cards(
        checkpoint,
        rows,
        {"factor": 0.0, "targets": targets},
        found.windows,
        found.changes,
        averages,
        classes,
        SuperWeightCards(),
    )
    assert card["null"]["loss"]["ratio"] > 1000 and card["null"]["loss"]["p"] == 1 / 51
    # It is the largest of its matrix, so that shifts of its size are the equal comparison.
    assert card["controls"]["random_coord"]["magnitude_ratio"]["mean"] < 0.5
    assert card["null_shift"]["loss"]["ratio"] > 30 and card["null_shift"]["loss"]["p"] == 1 / 51
    assert card["bootstrap"]["loss"]["ci_2.5"] > 3
    assert card["controls"]["no_op_delta"] == dict.fromkeys(METRICS, 0.0)
    assert card["cascade"]["layers"] == [1, 2, 3] and card["cascade"]["kl"][-1] > 1
    assert card["dual"]["total_variation"] > 0.2 and len(moved) == 2048
    assert len(card["dual"]["probability"]["up"]) == 20
