"""Published coordinates: recognised by name and size, and what a detection says of them."""

import pytest
from live_models import plant, tiny, word_tokenizer

from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.settings.super_weights import SuperWeights
from weight_atlas.super_weights.agreement import agreement, agreement_findings, known_as, published_coordinates
from weight_atlas.super_weights.survey import survey

TABLE = published_coordinates()
SIZES = sorted({(row.layers, row.d_model, row.d_ff) for row in TABLE.itertuples()})
REVISION = "0123456789012345678901234567890123456789"


def test_coordinates_lie_in_their_matrices_and_have_sources():
    assert ((TABLE.row < TABLE.d_model) & (TABLE.column < TABLE.d_ff) & (TABLE.layer < TABLE.layers)).all()
    assert (TABLE.source != "").all()
    assert len(TABLE) == 25 and not TABLE.duplicated(["model", "layer", "row", "column"]).any()


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("hf://allenai/OLMo-1B-0724-hf", 2),
        (f"hf://allenai/OLMo-1B-0724-hf@{REVISION}", 2),
        ("hf://allenai/OLMo-1B-0724", 2),
        ("/models/OLMo-7B-0724-Instruct-hf", 4),
        ("hf://allenai/OLMo-7B-0724-SFT-hf", 4),
        ("hf://meta-llama/Llama-2-7b-chat-hf", 1),
        ("hf://NousResearch/Llama-2-7b-chat-hf", 1),
        ("hf://TheBloke/Llama-2-7B-fp16", 1),
        ("hf://meta-llama/Llama-3.1-8B", 3),
        ("hf://meta-llama/Meta-Llama-3-8B-Instruct", 3),
        ("hf://meta-llama/Llama-3.1-8B-Instruct", 3),
        ("hf://mistralai/Mistral-7B-Instruct-v0.1", 1),
        ("hf://mistralai/Mistral-7B-v0.3", 0),
        ("hf://microsoft/Phi-3-mini-4k-instruct", 6),
        ("hf://google/gemma-7b-it", 1),
        ("hf://huggyllama/llama-7b", 1),
        ("hf://huggyllama/llama-30b", 3),
        ("hf://lmsys/vicuna-7b-v1.5", 1),
        ("/data/models--meta-llama--Llama-2-7b-hf/snapshots/abc123", 1),
        (f"/data/models--allenai--OLMo-7B-0724-hf/snapshots/{REVISION}/model.safetensors", 4),
        ("/x/Llama-2-7b-hf/model.safetensors", 1),
        ("checkpoints/llama-2-7b.pt", 1),
        ("C:\\models\\llama-7b", 1),
        ("bundled:demo", 0),
        ("hf://openlm-research/open_llama_7b", 0),
        ("hf://someone/not-llama-7b-hf-quantized", 0),
        ("/experiments/llama-7b-from-scratch", 0),
    ],
)
def test_models_are_recognised_by_name(source, count):
    assert max(len(known_as(source, *size)) for size in SIZES) == count


def test_the_size_must_be_the_published_one():
    assert len(known_as("hf://huggyllama/llama-7b", 32, 4096, 11008)) == 1
    for size in ((16, 4096, 11008), (32, 2048, 11008), (32, 4096, 512)):
        assert len(known_as("hf://huggyllama/llama-7b", *size)) == 0


def test_agreement_row_by_row():
    known = known_as("olmo-1b-0724-hf", 16, 2048, 8192)
    rows = agreement(known, [Coordinate(1, 1764, 1710)], {(1, 1764, 1710): 1})
    assert rows.found.tolist() == [True, False]
    assert rows.rank_in_tensor.isna().tolist() == [False, True]
    (finding,) = agreement_findings(rows)
    assert finding["grade"] == "notable"
    assert finding["text"] == (
        "1 of 2 published coordinates of OLMo-1B-0724 are found; not found: layer 2 [1764, 8041]."
    )
    (finding,) = agreement_findings(rows.assign(found=True))
    assert finding["grade"] == "info" and finding["text"].startswith("All 2 published coordinates of OLMo-1B-0724")
    (finding,) = agreement_findings(rows.assign(found=False))
    assert finding["grade"] == "notable" and finding["text"].startswith("None of 2 published")
    assert agreement_findings(rows.iloc[:0]) == []


@pytest.fixture
def known(monkeypatch):
    """Let a model of the tiny Llama's size be a published one, with two coordinates in one row."""
    size = {"layers": 4, "d_model": 64, "d_ff": 96}
    rows = TABLE[TABLE.model == "OLMo-1B-0724"].assign(layer=1, row=9, column=[21, 35], **size)
    monkeypatch.setattr("weight_atlas.super_weights.agreement.published_coordinates", lambda: rows)


def survey_of(model):
    live = anatomy(model)
    plant(live, 1, 9, 21)
    source = "hf://allenai/OLMo-1B-0724-hf"
    return survey(
        live, word_tokenizer(bos=True), None, SuperWeights(prompts=["one two three"]), model="m", source=source
    )


def test_a_survey_of_a_known_model_says_how_it_agrees(known):
    seen = survey_of(tiny("llama"))
    assert seen.agreement[["column", "found", "rank_in_tensor"]].to_numpy().tolist()[0] == [21, True, 1]
    assert seen.agreement.found.tolist() == [True, False] and seen.agreement.rank_in_tensor[1] > 1
    (finding,) = seen.artifact["findings"]
    assert finding["text"].startswith("1 of 2 published coordinates")


@pytest.mark.parametrize("changes", [("llama", {"intermediate_size": 30}), ("mixtral", {}), ("qwen2_moe", {})])
def test_a_model_of_that_name_with_other_matrices_is_another_model(known, changes):
    layout, sizes = changes
    seen = survey_of(tiny(layout, **sizes))
    assert len(seen.agreement) == 0 and seen.artifact["findings"] == []
