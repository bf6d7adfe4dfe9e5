"""The bundled model: its planted weight is found in every way, and verified."""

import pandas as pd
import pytest

from weight_atlas.artifacts import write_json
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import load_piece
from weight_atlas.live.load import open_live
from weight_atlas.settings.models import CheckpointSpec, Live
from weight_atlas.settings.super_weights import SuperWeights, SuperWeightVerification, WeightAttribution
from weight_atlas.super_weights.artifact import coordinates_of
from weight_atlas.super_weights.screening import screen
from weight_atlas.super_weights.survey import survey
from weight_atlas.super_weights.verdict import verified
from weight_atlas.super_weights.weight_attribution import attributed

pytestmark = pytest.mark.slow
PLANTED = (1, 7, 11)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo.json"
    write_json(path, make_manifest(CheckpointSpec(source="bundled:demo")))
    return path


@pytest.fixture(scope="module")
def corpus():
    import pydoc_data.topics

    return pd.DataFrame({"text": [text for _, text in sorted(pydoc_data.topics.topics.items())]})


@pytest.fixture(scope="module")
def opened(manifest):
    return open_live(manifest, Live())


@pytest.fixture(scope="module")
def screening(manifest):
    checkpoint = open_checkpoint(manifest)
    return screen(inventory(checkpoint), lambda row: load_piece(checkpoint, row), top=8)


@pytest.fixture(scope="module")
def effects(opened, corpus):
    return attributed(*opened, corpus, WeightAttribution()).table


def test_screening(screening):
    for score in ("size", "path_gain"):
        first = screening.loc[screening[score].idxmax()]
        assert (first.layer, first.row, first.column) == PLANTED


def test_attribution(effects):
    """On ordinary text the planted weight is among the first of all weights of the layers' matrices."""
    first = effects[(effects.kind == "element") & effects.layer.notna() & effects.column.notna()].head(5)
    assert ("W_down", *PLANTED) in {(row.role, row.layer, row.row, row.column) for row in first.itertuples()}


def test_detection_published_mode_and_verification(manifest, opened, corpus, screening, effects):
    live, tokenizer = opened
    seen = survey(live, tokenizer, None, SuperWeights(), model="demo", source="bundled:demo")
    (place,) = coordinates_of(seen.artifact, manifest)
    assert (place.layer, place.row, place.col) == PLANTED
    (published,) = seen.artifact["published_procedure"]
    assert (published["layer"], published["row"], published["column"]) == PLANTED
    assert seen.table.share[0] == pytest.approx(1, abs=0.05)
    assert seen.table.token[0] == tokenizer.bos_token
    how = SuperWeightVerification(window=128, tokens=1024, draws=25, removals=16)
    judged, written = verified(live, tokenizer, seen.artifact, corpus, screening, effects, how)
    assert written["verdict"] == "critical"
    assert judged.table.ratio[0] > 20
    assert judged.table.null_draws[0] >= 25
    assert judged.table.null_max[0] < 0.01 and judged.table.special[0] == "yes"
    # What passes its activation on is critical as well, and nothing else is.
    critical = judged.table[judged.table.verdict == "critical"]
    assert {(row.role, row.row) for row in critical.itertuples()} == {("W_down", 7), ("norm", 7)}
    assert [each["line"] for each in written["sets"]] == ["layer 2 W_V self_attn.v_proj [:, 7]"]
    again = survey(live, tokenizer, None, SuperWeights(), model="demo", source="bundled:demo")
    assert again.artifact == seen.artifact
