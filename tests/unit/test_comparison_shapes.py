"""Sides that differ in their vocabulary, names, shapes, ties or orientation."""

import json

import pytest
import torch
from compared_models import (
    D_FF,
    D_MODEL,
    TOKENS,
    changed,
    said,
    side,
    tables,
    weights,
    write,
)
from safetensors.torch import save_file

from weight_atlas.comparison.token_rows import token_rows


@pytest.mark.slow
def test_a_vocabulary_that_was_resized_and_renumbered(tmp_path):
    tokens = [f"t{number}" for number in range(TOKENS)]
    a = write(tmp_path / "a", weights(), tokens)
    new = ["first", *tokens[:10], *tokens[12:], "last", "more"]
    rows = [None if token not in tokens else tokens.index(token) for token in new]
    tensors = weights()
    for matrix in ("model.embed_tokens.weight", "lm_head.weight"):
        old = tensors[matrix]
        tensors[matrix] = torch.stack([torch.zeros(D_MODEL).bfloat16() if row is None else old[row] for row in rows])
    tensors["lm_head.weight"][1] += 1  # of t0
    made = tables(a, write(tmp_path / "b", tensors, new, vocab_size=len(new)))
    assert changed(made) == ["lm_head.weight"]
    (text,) = [text for text in said(made) if "vocabulary has" in text]
    assert text.startswith("The vocabulary has changed from 40 to 41 rows: 38 rows are matched by token; 38 of them")
    assert "2 are in a only ('t10', 't11'); 3 in b only ('first', 'last', 'more')" in text
    assert made.tokens[["role", "token", "row_a", "row_b"]].values.tolist() == [["W_U", "t0", 0, 1]]
    assert [text for text in said(made) if "Beside the weights" in text and "config.json (vocab_size)" in text]
    without = tables(write(tmp_path / "base", weights()), write(tmp_path / "b", tensors, vocab_size=len(new)))
    assert without.summary["vocabulary"]["how"] == "number"


def test_rows_without_a_token_are_matched_by_number():
    found = token_rows(["a", None, "b"], ["b", None, "a"], 4, 5)
    assert found.a.tolist() == [0, 1, 2, 3] and found.b.tolist() == [2, 1, 0, 3]
    assert found.only_b.tolist() == [4] and not found.identity


def test_a_renamed_tensor(tmp_path):
    a, b = weights(), weights()
    a["adapter.head"], b["another.head"] = (torch.full((3, 70), 2.5) for _ in range(2))
    a["thing.one"], b["thing.two"] = torch.zeros(5, 70), torch.ones(5, 70)
    sides = [write(tmp_path / side, tensors, allow_other=True) for side, tensors in (("a", a), ("b", b))]
    made = tables(*sides)
    assert "1 tensor has another name and the same values: adapter.head is another.head." in said(made)
    assert made.alone[["side", "id"]].values.tolist() == [["a", "thing.one"], ["b", "thing.two"]]
    assert "1 tensor is in a only: thing.one." in said(made)


def test_more_layers_on_one_side(tmp_path):
    made = tables(
        write(tmp_path / "base", weights()), write(tmp_path / "other", weights(layers=4), num_hidden_layers=4)
    )
    assert len(made.alone) == 18 and set(made.alone["side"]) == {"b"}
    (text,) = [text for text in said(made) if "in b only" in text]
    assert text.startswith("18 tensors are in b only, of layers 2, 3: model.layers.2.")
    assert len(made.table) == 21


def test_shapes_that_do_not_fit_are_said(tmp_path):
    wide = {
        key: torch.cat([value, value]) if "gate" in key or "up_" in key else value for key, value in weights().items()
    }
    wide = {key: torch.cat([value, value], dim=1) if "down" in key else value for key, value in wide.items()}
    made = tables(write(tmp_path / "base", weights()), write(tmp_path / "other", wide, intermediate_size=2 * D_FF))
    assert made.alone["reason"].unique().tolist() == [
        "the shapes differ: 64x96 and 64x192",
        "the shapes differ: 96x64 and 192x64",
    ]
    assert made.summary["alone"] == {"a": 0, "b": 0, "both": 6}


def test_tied_on_one_side_only(tmp_path):
    tied = {key: value for key, value in weights().items() if key != "lm_head.weight"}
    a = write(tmp_path / "a", tied, tie_word_embeddings=True)
    untied = {**weights(), "lm_head.weight": tied["model.embed_tokens.weight"] + 0.25}
    made = tables(a, write(tmp_path / "b", untied))
    row = made.table.set_index("role").loc["W_U"]
    assert (row["id_a"], row["id_b"]) == ("model.embed_tokens.weight#W_U", "lm_head.weight")
    assert changed(made) == ["model.embed_tokens.weight#W_U"]
    text = said(made)[1]
    assert text == (
        "The output embedding of base is its token embedding (model.embed_tokens.weight); other stores its own, "
        "lm_head.weight, another matrix than its model.embed_tokens.weight."
    )
    copied = write(tmp_path / "c", {**tied, "lm_head.weight": tied["model.embed_tokens.weight"].clone()})
    for made in (tables(a, copied), tables(copied, a)):
        assert not changed(made) and "lm_head.weight, a copy of its model.embed_tokens.weight." in said(made)[1]
        assert made.summary["findings"][1]["grade"] == "info"
    both = tables(a, write(tmp_path / "b", tied, tie_word_embeddings=True))
    assert not any("output embedding" in text for text in said(both))
    assert "W_U" not in set(both.table["role"]) and both.summary["relation"] == "identical"


def test_a_conv1d_and_fused_attention_are_read_logically(tmp_path):
    """GPT-2 as transformers stores it, (in, out), against the same weights in the orientation of nn.Linear."""
    random = torch.Generator().manual_seed(12)
    plain = {
        "wte.weight": torch.randn(30, 16, generator=random), "wpe.weight": torch.randn(12, 16, generator=random),
        "ln_f.weight": torch.ones(16), "ln_f.bias": torch.zeros(16),
    }  # fmt: skip
    turned = dict(plain)
    for part, shape in (
        ("attn.c_attn", (48, 16)),
        ("attn.c_proj", (16, 16)),
        ("mlp.c_fc", (64, 16)),
        ("mlp.c_proj", (16, 64)),
    ):
        matrix, bias = torch.randn(shape, generator=random), torch.randn(shape[0], generator=random)
        plain |= {f"h.0.{part}.weight": matrix.T, f"h.0.{part}.bias": bias}
        turned |= {f"h.0.{part}.weight": matrix, f"h.0.{part}.bias": bias}
    for part in ("ln_1", "ln_2"):
        plain |= {f"h.0.{part}.weight": torch.ones(16), f"h.0.{part}.bias": torch.zeros(16)}
        turned |= {f"h.0.{part}.weight": torch.ones(16), f"h.0.{part}.bias": torch.zeros(16)}
    turned["h.0.attn.c_attn.weight"] = turned["h.0.attn.c_attn.weight"].clone()
    turned["h.0.attn.c_attn.weight"][16 + 4 : 16 + 8] += 1  # head 1 of four, of the keys
    sides = []
    for folder, tensors in (("a", plain), ("b", turned)):
        place = tmp_path / folder
        place.mkdir()
        save_file({key: value.contiguous() for key, value in tensors.items()}, place / "model.safetensors")
        config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_layer": 1}
        (place / "config.json").write_text(json.dumps({**config, "vocab_size": 30, "n_positions": 12}))
        sides.append(side(place))
    made = tables(*sides)
    assert changed(made) == ["h.0.attn.c_attn.weight#W_K"]
    assert made.heads["changed"].tolist() == [0, 64, 0, 0]
