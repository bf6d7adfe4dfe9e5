"""Tokenizers without BOS, EOS, PAD and UNK, or with more tokens than their model has rows."""

import pytest
import torch
from lm_eval.api.instance import Instance
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from weight_atlas.ablations.harness import Harness
from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import anatomy

TEXTS = ["a river runs past", "the town", "where people read old books and write letters"]


def byte_tokenizer(**special):
    """One token for each byte, and the special tokens given behind them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rust = Tokenizer(models.BPE(vocab={byte: place for place, byte in enumerate(alphabet)}, merges=[]))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=rust, **special)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=256, max_position_embeddings=64, bos_token_id=None, eos_token_id=None, **sizes)
    return LlamaForCausalLM(config).eval()


def requests(kind, arguments):
    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=place, metadata=("t", place, 1))
        for place, each in enumerate(arguments)
    ]


SETTINGS = {"until": ["\n\n"], "max_gen_toks": 4, "do_sample": False}


@pytest.mark.parametrize(
    "special",
    [
        pytest.param({}, id="no special token at all"),
        pytest.param({"pad_token": "<pad>"}, id="padding beyond the rows"),
        pytest.param({"bos_token": "a"}, id="a BOS alone"),
        pytest.param({"unk_token": "<unk>"}, id="an unknown token beyond the rows"),
    ],
)
def test_texts_are_scored_and_continued_as_by_the_model_alone(model, special):
    tokenizer = byte_tokenizer(**special)
    lm = Harness(anatomy(model), tokenizer, batch_size=3)
    start = tokenizer.bos_token_id if "bos_token" in special else tokenizer("\n")["input_ids"][0]
    rolling = lm.loglikelihood_rolling(requests("loglikelihood_rolling", [(text,) for text in TEXTS]))
    continued = lm.generate_until(requests("generate_until", [(text, SETTINGS) for text in TEXTS]))
    for text, score, continuation in zip(TEXTS, rolling, continued, strict=True):
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([[start, *ids]])).logits[0].double().log_softmax(-1)
            taken = list(ids)
            for _ in range(4):
                taken.append(int(model(torch.tensor([taken])).logits[0, -1].argmax()))
        assert score == pytest.approx(sum(logits[place, token].item() for place, token in enumerate(ids)), abs=1e-4)
        assert continuation == tokenizer.decode(taken[len(ids) :]).split("\n\n")[0]


def test_an_empty_context_has_something_before_it(model):
    lm = Harness(anatomy(model), byte_tokenizer(), batch_size=1)
    ((score, _),) = lm.loglikelihood(requests("loglikelihood", [("", "ab")]))
    assert score < 0
    assert lm.tok_encode("ab") == byte_tokenizer()("ab")["input_ids"]


def test_a_token_beyond_the_embedding_is_named(model):
    from weight_atlas.live.load import refuse_ids_beyond

    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    refuse_ids_beyond(model, tokenizer, "a folder")
    model(torch.tensor([[255, 3]]))
    model(input_ids=torch.tensor([[255]]))
    ids = torch.tensor([tokenizer("a<extra>")["input_ids"]])
    for call in (lambda: model(ids), lambda: model(input_ids=ids)):
        with pytest.raises(AtlasError) as error:
            call()
        for part in ("token 256 ('<extra>')", "256 rows", "a folder", "the model's own tokenizer"):
            assert part in str(error.value)
