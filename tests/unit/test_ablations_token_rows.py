"""Rows of tokens of low weight pruned: which they are, what it does to the model, and that nothing of it stays."""

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import tiny

from weight_atlas.ablations.choices import Choices
from weight_atlas.ablations.variants import variants_of
from weight_atlas.ablations.window_scores import score_variants
from weight_atlas.errors import AtlasError
from weight_atlas.interventions.intervention import applied
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.windows import Windows
from weight_atlas.workflow.configuration import configured


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def live(request):
    return anatomy(tiny(request.param))


def table(vocabulary):
    weights = np.random.default_rng(0).normal(size=vocabulary)
    weights[5] = np.nan
    frame = pd.DataFrame({"id": range(vocabulary), "weight": weights, "masked": False, "special": False})
    frame.loc[frame.index < 2, "special"] = True
    frame.loc[frame.index == 3, "masked"] = True
    return frame


def rows_of(live):
    return live.model.get_input_embeddings().weight


def expanded(live, tokens, **settings):
    rows = {"vector": "v", "percentiles": [10.0, 50.0], "draws": 2, **settings}
    return variants_of("low", {"weights": None, "token_rows": rows}, live, [], token_weights=tokens)


def test_the_lowest_tokens_and_as_many_random_ones(live):
    tokens = table(len(rows_of(live)))
    variants = expanded(live, tokens).variants
    free = [i for i in range(len(tokens)) if i >= 2 and i not in (3, 5)]
    for by, size in (("magnitude", tokens["weight"].abs()), ("weight", tokens["weight"])):
        lowest = expanded(live, tokens, prune_by=by).variants[0]
        assert lowest.change.rows == tuple(sorted(sorted(free, key=lambda i: size[i])[: round(0.1 * len(free))]))
    assert [variant.kind for variant in variants] == ["token_rows", "random_tokens", "random_tokens"] * 2
    for variant in variants:
        assert set(variant.change.rows) <= set(free)
        assert variant.change.weights == round((0.1 if "10 %" in variant.name else 0.5) * len(free))
    assert variants[1].change.rows != variants[2].change.rows
    assert [v.change for v in variants] == [v.change for v in expanded(live, tokens).variants]


def test_rows_are_zero_inside_and_come_back_bit_for_bit(live):
    before = {name: parameter.clone() for name, parameter in live.model.named_parameters()}
    variant = expanded(live, table(len(rows_of(live)))).variants[0]
    pruned = list(variant.change.rows)
    rows = rows_of(live)
    others = torch.tensor([number for number in range(len(rows)) if number not in pruned])
    stored = rows.detach().clone()
    with applied(live, variant):
        assert not rows[pruned].any() and torch.equal(rows[others], stored[others])
    assert all(torch.equal(before[name], parameter) for name, parameter in live.model.named_parameters())


def test_the_loss_is_that_of_a_model_without_the_rows(live):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, len(rows_of(live)), (2, 16), generator=generator)
    scored = torch.ones(2, 16, dtype=torch.bool)
    scored[:, 0] = False
    windows = Windows(ids, scored)
    expansion = expanded(live, table(len(rows_of(live))), draws=0)
    scores, _ = score_variants(live, windows, expansion, batch_size=2)
    for variant in expansion.variants:
        stored = rows_of(live).detach().clone()
        with torch.no_grad():
            rows_of(live)[list(variant.change.rows)] = 0
            log_p = live.model(input_ids=ids).logits.double().log_softmax(-1)
            rows_of(live).copy_(stored)
        nll = -log_p[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2).sum(1)
        found = scores[scores["variant"] == variant.name]["nll"].to_numpy()
        np.testing.assert_allclose(found, nll.numpy(), rtol=1e-5)


def test_what_does_not_fit_is_skipped(live):
    small = len(rows_of(live))
    assert "has 1000000 tokens" in expanded(live, table(1_000_000)).skipped[0].reason
    assert "less than one" in expanded(live, table(small), percentiles=[1e-6]).skipped[0].reason
    assert "not given" in expanded(live, None).skipped[0].reason


def test_the_vector_of_an_ablation_is_known_and_its_table_is_all_that_is_read():
    config = {
        "models": {"m": {"source": "x"}},
        "token_weights": {"norms": {"model": "m"}},
        "ablations": {
            "low": {"token_rows": {"vector": "norms"}},
            "both": {"zero": {}, "token_rows": {"vector": "norms"}},
        },
    }
    patterns = {"super_weights": "S/{model}", "inventory": "I/{model}", "token_weights": "T/{vector}"}
    choices = Choices(configured(config, "c"))
    assert choices.weight_files("m", "low", patterns) == {"token_weights": "T/norms"}
    assert choices.weight_files("m", "both", patterns) == {"super_weights": "S/{model}", "token_weights": "T/norms"}
    config["ablations"]["low"]["token_rows"]["vector"] = "norm"
    with pytest.raises(AtlasError, match="did you mean 'norms'"):
        Choices(configured(config, "c"))
