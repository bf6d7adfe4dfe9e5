"""The bundled model, exactly widened, with weights planted that it then relies on, judged by removing each for real."""

import math
import pydoc_data.topics
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers

import weight_atlas.data.demo.train as demo
from weight_atlas.settings.super_weights import SuperWeightVerification
from weight_atlas.super_weights.verdict import verified
from weight_atlas.super_weights.verification_plan import verification_windows

pytestmark = pytest.mark.slow

D, HEAD, HEADS, KEYS = 128, 32, 4, 2
ALIKE, START, MASSIVE, ALSO_ALIKE = range(D, D + 4)
TOKEN = 300


def widened(folder):
    """The same model with four more channels, and two more heads that share keys and values, that do nothing."""
    old = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = transformers.AutoConfig.from_pretrained(folder)
    config.hidden_size, config.num_attention_heads, config.num_key_value_heads = D + 4, HEADS + 2, KEYS + 1
    # A mean of squares over more channels, all zero, is smaller.
    config.rms_norm_eps *= D / (D + 4)
    new = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            stored = old.get_parameter(name)
            parameter.zero_()
            parameter[tuple(slice(size) for size in stored.shape)] = stored
            if "norm" in name:
                parameter *= math.sqrt(D / (D + 4))
                parameter[D:] = 1.0
    return new


@torch.no_grad()
def plant(model):
    """Balanced weights of the head, and in the last layer a head that looks at the start token alone.

    From there it writes a constant that dwarfs the one which the later norms count on.
    """
    embedding, last = model.model.embed_tokens.weight, model.model.layers[-1]
    embedding[:, ALIKE] = embedding[:, ALSO_ALIKE] = 0.3
    embedding[demo.BOS_ID, START] = 50.0
    normed = {}
    handles = [
        norm.register_forward_hook(lambda module, inputs, output, name=name: normed.update({name: (inputs[0], output)}))
        for name, norm in (("head", last.input_layernorm), ("mlp", last.post_attention_layernorm))
    ]
    model(torch.tensor([[demo.BOS_ID, *range(300, 420)]]))
    alike, start = normed["head"][1][0, 1:, ALIKE].mean(), normed["head"][1][0, 0, START]
    score, query, key = math.sqrt(25 * math.sqrt(HEAD)), HEADS * HEAD + 15, KEYS * HEAD + 15
    attention = last.self_attn
    attention.q_proj.weight[query, ALIKE], attention.k_proj.weight[key, START] = score / alike, score / start
    size = 20 * normed["mlp"][0][0, 1:].square().sum(-1).sqrt().mean()
    attention.v_proj.weight[KEYS * HEAD, START] = 10 / start
    attention.o_proj.weight[MASSIVE, HEADS * HEAD] = size / 10
    for norm in (last.post_attention_layernorm, model.model.norm):
        norm.weight[:D] *= math.sqrt(1 + 20**2)
    last.post_attention_layernorm.weight[D:] = 1.0
    handles.append(
        model.model.norm.register_forward_hook(lambda module, inputs, output: normed.update(final=(None, output)))
    )
    model(torch.tensor([[demo.BOS_ID, *range(300, 420)]]))
    for handle in handles:
        handle.remove()
    balanced = 25 / normed["final"][1][0, 1:, ALIKE].mean()
    model.lm_head.weight[TOKEN, ALIKE], model.lm_head.weight[TOKEN, ALSO_ALIKE] = balanced, -balanced
    return {
        "layer 3 W_Q self_attn.q_proj": (attention.q_proj.weight, query, ALIKE),
        "layer 3 W_K self_attn.k_proj": (attention.k_proj.weight, key, START),
        "layer 3 W_V self_attn.v_proj": (attention.v_proj.weight, KEYS * HEAD, START),
        "layer 3 W_O self_attn.o_proj": (attention.o_proj.weight, MASSIVE, HEADS * HEAD),
        "W_E model.embed_tokens": (embedding, demo.BOS_ID, START),
        "W_U lm_head": (model.lm_head.weight, TOKEN, ALSO_ALIKE),
        "layer 3 norm input_layernorm": (last.input_layernorm.weight, ALIKE),
        "norm model.norm": (model.model.norm.weight, ALSO_ALIKE),
    }


@torch.no_grad()
def loss(model, windows):
    total, count = 0.0, 0
    for ids, scored in zip(windows.ids, windows.scored, strict=True):
        logits = model(ids[None], use_cache=False).logits[0].double()
        (at,) = scored.nonzero(as_tuple=True)
        chosen = logits[at - 1]
        total += float((chosen.logsumexp(-1) - chosen.gather(1, ids[at, None])[:, 0]).sum())
        count += len(at)
    return total / count


def test_every_link_is_found_once_and_costs_what_its_removal_costs(tmp_path):
    import weight_atlas as wa

    folder = Path(demo.__file__).parent / "model"
    model = widened(folder)
    links = plant(model)
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    corpus = pd.DataFrame({"text": [text for _, text in sorted(pydoc_data.topics.topics.items())]})
    how = SuperWeightVerification(tokens=1024, window=128, draws=0)
    opened = wa.open(str(tmp_path))
    live, tokenizer = opened.live
    effects = opened.weight_attribution(corpus, tokens=1024).table
    found, screening = opened.super_weights().artifact, opened.super_weight_screening()
    _, written = verified(live, tokenizer, found, corpus, screening, effects, how)
    windows = verification_windows(live, tokenizer, corpus, how)
    told = {each["place"]: each for each in written["super_weights"]}
    assert len(told) == len(written["super_weights"])
    before = loss(model, windows)
    # A guess at random costs 7.6.
    assert before < 6.0
    for name, (matrix, *place) in links.items():
        kept = float(matrix[tuple(place)])
        matrix.data[tuple(place)] = 0
        harm = loss(model, windows) - before
        matrix.data[tuple(place)] = kept
        record = told[f"{name} [{', '.join(map(str, place))}]"]
        assert harm > math.log(1.5) and record["verdict"] == "critical", name
        assert record["delta_nll"] == pytest.approx(harm, rel=1e-3), name
