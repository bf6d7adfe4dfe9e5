"""Log-likelihoods of continuations, against the harness's own model and plain passes."""

from pathlib import Path

import pytest
import torch

from weight_atlas.ablations.harness import Harness
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.load import load_model
from weight_atlas.tokens.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.from_folder(ROOT / "src/weight_atlas/data/demo/model")


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    return load_tokenizer(checkpoint.folder, trust_remote_code=False)


@pytest.fixture(scope="module")
def live(checkpoint):
    return anatomy(load_model(checkpoint, trust_remote_code=False, dtype="auto"))


@pytest.mark.parametrize("logits", [1 << 24, 5 * 2048])
def test_log_likelihoods_are_those_of_the_harness(live, tokenizer, monkeypatch, logits):
    """Requests that share an input, that are too long, that split one input in two ways, and chunks of the head.

    The harness gets them one at a time: together it reads those that split one input in two ways wrongly, see below.
    """
    from lm_eval.models.huggingface import HFLM

    monkeypatch.setattr("weight_atlas.live.head.LOGITS", logits)
    draw = torch.Generator().manual_seed(0)
    text = torch.randint(5, 1000, (600,), generator=draw).tolist()
    requests = [
        (("a", str(number)), context, continuation)
        for number, (context, continuation) in enumerate(
            [(text[:9], [50]), (text[:9], [60]), (text[:8], [text[8], 50]), (text, text[:20]), (text[:1], text[1:40])]
        )
    ]
    plain = HFLM(pretrained=live.model, tokenizer=tokenizer, batch_size=2)
    lm = Harness(live, tokenizer, batch_size=2)
    assert lm.max_length < 600
    expected = [plain._loglikelihood_tokens([request], disable_tqdm=True)[0] for request in requests]
    found = lm._loglikelihood_tokens(requests)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], rel=1e-6)
    with torch.no_grad():
        likeliest = int(live.model(torch.tensor([text[:9]])).logits[0, -1].argmax())
    assert lm._loglikelihood_tokens([(None, text[:9], [likeliest])])[0][1]


def test_each_split_of_one_input_has_the_likelihood_that_the_model_gives(live, tokenizer):
    """Where the harness's own class reads the shorter continuation at the positions where the longer one begins."""
    from lm_eval.models.huggingface import HFLM

    ids = list(range(20, 29))
    requests = [(("a", "long"), ids[:6], ids[6:]), (("a", "short"), ids[:8], ids[8:])]
    with torch.no_grad():
        log_p = torch.log_softmax(live.model(torch.tensor([ids])).logits[0], -1)
    expected = [sum(float(log_p[place - 1, ids[place]]) for place in range(start, 9)) for start in (6, 8)]
    found = Harness(live, tokenizer, batch_size=2)._loglikelihood_tokens(requests)
    assert [score for score, _ in found] == pytest.approx(expected, rel=1e-5)
    theirs = HFLM(pretrained=live.model, tokenizer=tokenizer)._loglikelihood_tokens(requests, disable_tqdm=True)
    assert theirs[1][0] == pytest.approx(float(log_p[5, ids[8]]), rel=1e-5)


def test_continuations_longer_than_the_context_are_refused(live, tokenizer):
    lm = Harness(live, tokenizer, batch_size=2)
    answer = [7] * (lm.max_length + 1)
    with pytest.raises(AtlasError, match="exceeds the model's context"):
        lm._loglikelihood_tokens([(("a", "b"), [5], answer)])
