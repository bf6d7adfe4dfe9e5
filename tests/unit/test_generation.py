"""Greedy continuations before and after removal, beside transformers' own of a plain model that is edited by hand."""

import copy
import math

import pandas as pd
import pytest
import torch
from live_models import VOCABULARY, drawn, plant, tiny, word_tokenizer

from weight_atlas.ablations import generation
from weight_atlas.ablations.generation import generated, repeated, same, super_weights_of
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.figures.generation import continuations
from weight_atlas.live import greedy as steps
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.edits import value_at
from weight_atlas.live.greedy import continuation_nll, greedy, keeps_cache
from weight_atlas.settings.super_weights import Generation

PROMPTS = ["one two three four five", "six one ten"]
IDS = torch.tensor([[1, 5, 6, 7, 8, 9]])


def verdict_of(*records):
    """A verification's artifact of weights: (coordinate, verdict, harm)."""
    return {
        "super_weights": [
            {
                "layer": place.layer, "row": place.row, "column": place.col, "expert_id": place.expert,
                "role": place.role, "component": place.component, "verdict": verdict, "delta_nll": harm,
                "input_value": 40.0 if place.role == "W_down" else None, "token": "<s>", "token_index": 0,
            }
            for place, verdict, harm in records
        ]
    }  # fmt: skip


def plain_text(model, ids, count):
    """What transformers itself generates, ends of texts being tokens like others."""
    model.generation_config.eos_token_id = None
    kept = model.generate(ids, max_new_tokens=count, do_sample=False, attention_mask=torch.ones_like(ids))
    return kept[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("layout", ["llama", "gpt2", "gemma2", "mixtral", "deepseek_v2", "gpt_oss"])
def test_tokens_are_those_of_transformers(layout):
    model = tiny(layout, sharp=layout not in ("gpt2", "gemma2"))
    live = anatomy(model)
    assert keeps_cache(live, IDS)
    by_hand = plain_text(model, IDS, 12)
    assert greedy(live, IDS, 12, cached=True) == greedy(live, IDS, 12, cached=False) == by_hand
    ids = torch.cat([IDS, torch.tensor([by_hand])], 1)
    logits = model(ids).logits[0, IDS.shape[1] - 1 : -1].double()
    nll = torch.nn.functional.cross_entropy(logits, torch.tensor(by_hand)).item()
    assert continuation_nll(live, IDS, by_hand) == pytest.approx(nll, rel=1e-5)


def test_what_a_pass_leaves_is_used_only_where_it_is_right(monkeypatch):
    live = anatomy(tiny("llama"))
    step = steps._step
    monkeypatch.setattr(steps, "_step", lambda live, ids, cache: step(live, ids, None))
    assert not keeps_cache(live, IDS)

    def refuses(*given):
        raise NotImplementedError

    monkeypatch.setattr(steps, "_step", refuses)
    assert not keeps_cache(live, IDS)


def test_a_continuation_ends_where_logits_are_no_numbers():
    model = tiny("llama", sharp=True)
    live = anatomy(model)
    found = greedy(live, IDS, 4, cached=True)
    model.model.embed_tokens.weight[found[1]] = math.nan
    for cached in (True, False):
        assert greedy(live, IDS, 4, cached=cached) == found[:2]
    assert continuation_nll(live, IDS, found) == math.inf


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["llama", "mixtral"])
def test_removal_and_restoring_beside_a_model_that_is_edited_by_hand(layout):
    model = tiny(layout, sharp=True)
    live, tokenizer = anatomy(model), word_tokenizer(bos=True)
    place = plant(live, 1, 5, 9)
    other = live.projections[2].coordinate(3, 4, place.expert)
    verdict = verdict_of((place, "critical", 5.0), (other, "contributing", 1.0))
    table = generated(live, tokenizer, verdict, Generation(prompts=PROMPTS, tokens=10))
    names = [
        "baseline",
        "all removed",
        "removed, activation restored",
        *(f"only {each} removed" for each in shown(place, other)),
    ]
    assert table.variant.tolist() == names * 2 and table.prompt.tolist() == [1] * 5 + [2] * 5

    removed = copy.deepcopy(model)
    for each in (place, other):
        down = removed.model.layers[each.layer].mlp
        down = down.experts.down_proj[each.expert] if layout == "mixtral" else down.down_proj.weight
        assert down[each.row, each.col] == pytest.approx(value_at(live, each)) != 0
        down[each.row, each.col] = 0
    for number, text in enumerate(PROMPTS, start=1):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        rows = table[table.prompt == number].set_index("variant")
        original, without = plain_text(model, ids, 10), plain_text(removed, ids, 10)
        assert rows.continuation["baseline"] == tokenizer.decode(original)
        assert rows.continuation["all removed"] == tokenizer.decode(without)
        logits = removed(torch.cat([ids, torch.tensor([original])], 1)).logits[0, ids.shape[1] - 1 : -1]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(original)).item()
        assert rows.original_nll["all removed"] == pytest.approx(nll, rel=1e-4)
        assert rows.original_delta_nll["baseline"] == 0 and rows.same_tokens["baseline"] == 10
        assert rows.same_tokens["all removed"] == same(original, without)
        assert rows.repeated_tokens["all removed"] == pytest.approx(1 - len(set(without)) / 10)
    again = generated(live, tokenizer, verdict, Generation(prompts=PROMPTS, tokens=10))
    pd.testing.assert_frame_equal(table, again, check_exact=True)
    drawn(continuations(table))


def shown(*places):
    return [
        str(place).replace(f"{place.component} ", "").replace(place.component, "").replace("  ", " ")
        for place in places
    ]


@pytest.mark.slow
def test_the_restored_activation_is_that_of_the_sinks_alone():
    """Beside the plain model without the weight, to whose projection w x is added back where |x| is large."""
    model = tiny("llama", sharp=True)
    live, tokenizer = anatomy(model), word_tokenizer(bos=True)
    place = plant(live, 1, 5, 9)
    table = generated(live, tokenizer, verdict_of((place, "critical", 5.0)), Generation(prompts=PROMPTS, tokens=8))
    assert set(table.kind) == {"baseline", "zero", "restore"}

    removed = copy.deepcopy(model)
    down = removed.model.layers[1].mlp.down_proj
    weight = float(down.weight[5, 9])
    down.weight[5, 9] = 0

    def put_back(module, inputs, output):
        x = inputs[0][..., 9]
        output[..., 5] += torch.where(x.abs() > 0.5 * 39.9, weight * x, 0)

    down.register_forward_hook(put_back)
    rows = table[table.kind == "restore"].set_index("prompt")
    for number, text in enumerate(PROMPTS, start=1):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        assert rows.continuation[number] == tokenizer.decode(plain_text(removed, ids, 8))
        original = plain_text(model, ids, 8)
        logits = removed(torch.cat([ids, torch.tensor([original])], 1)).logits[0, ids.shape[1] - 1 : -1]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(original)).item()
        assert rows.original_nll[number] == pytest.approx(nll, rel=1e-4)


def test_weights_of_attention_are_removed_and_have_nothing_to_restore():
    live = anatomy(tiny("llama", sharp=True))
    output = live.projections[1].coordinate(5, 9)
    query = type(output)(1, 3, 4, role="W_O", component="self_attn.o_proj")
    settings = Generation(prompts=PROMPTS, tokens=3, each=0)
    table = generated(live, word_tokenizer(bos=True), verdict_of((query, "critical", 5.0)), settings)
    assert list(dict.fromkeys(table.variant)) == ["baseline", "removed"]
    both = verdict_of((query, "critical", 5.0), (output, "critical", 1.0))
    table = generated(live, word_tokenizer(bos=True), both, settings)
    restored = "those of W_down removed, activation restored"
    assert list(dict.fromkeys(table.variant)) == ["baseline", "all removed", restored, "only layer 1 [5, 9] removed"]
    assert table.weights.tolist() == [0, 2, 1, 1] * 2
    more = verdict_of((query, "mild", 5.0), (output, "mild", 1.0), (live.projections[2].coordinate(1, 2), "mild", 1.0))
    names = list(dict.fromkeys(generated(live, word_tokenizer(bos=True), more, settings).variant))
    assert names == ["baseline", "all removed", "those of W_down removed", restored]


def test_which_weights_are_removed():
    live = anatomy(tiny("llama"))
    places = [live.projections[0].coordinate(row, 1) for row in range(4)]
    mixed = verdict_of(*zip(places, ["inert", "mild", "critical", "inconclusive"], [0, 0.2, 5, math.nan], strict=True))
    assert [each.place for each in super_weights_of(mixed)] == [places[3], places[2], places[1]]
    inert = verdict_of(*[(place, "inert", 0.0) for place in places])
    assert [each.place for each in super_weights_of(inert)] == places
    with pytest.raises(NotApplicable, match="no super weight was found"):
        super_weights_of(verdict_of())


def test_measures_of_texts():
    assert same([1, 2, 3], [1, 2, 4]) == 2 and same([1, 2], [1, 2, 4]) == 2 and same([], [1]) == 0
    assert repeated([1, 1, 2, 1], 1) == 0.5 and repeated([1, 2, 3], 4) is None
    assert repeated([1, 2, 1, 2, 1, 2, 1], 4) == 0.5


def test_prompts_fit_the_model():
    live, tokenizer = anatomy(tiny("llama", max_position_embeddings=8)), word_tokenizer(bos=True)
    verdict = verdict_of((live.projections[0].coordinate(1, 1), "critical", 1.0))
    table = generated(live, tokenizer, verdict, Generation(prompts=["one two three"], tokens=20))
    assert set(table.tokens) == {4} and table.note.isna().all()
    for text in ("one two three four five six seven", ""):
        with pytest.raises(AtlasError, match="tokens"):
            generated(live, tokenizer, verdict, Generation.model_construct(prompts=[text], tokens=2, each=0))
    assert len(generation.beginnings()) == 3 and VOCABULARY > 15
