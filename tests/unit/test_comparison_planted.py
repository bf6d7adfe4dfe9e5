"""Two models compared, where what differs was planted: it is found as what it is, in words too."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.comparison.measure import measured, share_of
from weight_atlas.comparison.sides import Side, Sides
from weight_atlas.comparison.summary import tables_of
from weight_atlas.comparison.table import in_order
from weight_atlas.comparison.token_rows import token_rows
from weight_atlas.comparison.vocabularies import spellings
from weight_atlas.families.inventory import inventory
from weight_atlas.settings.comparison import Comparison
from weight_atlas.settings.spectra import Tails

HEADS, HEAD_DIM, D_MODEL, D_FF, LAYERS, TOKENS = 4, 16, 64, 96, 2, 40
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": D_MODEL, "intermediate_size": D_FF,
    "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "head_dim": HEAD_DIM, "num_hidden_layers": LAYERS,
    "vocab_size": TOKENS, "tie_word_embeddings": False, "rms_norm_eps": 1e-5,
}  # fmt: skip
Q, UP, DOWN = "self_attn.q_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"


def name(layer, part):
    return f"model.layers.{layer}.{part}"


def weights(seed=0, layers=LAYERS, rows=TOKENS):
    """Weights of a small Llama in bfloat16, with spectra that fall as those of trained ones do."""
    random = torch.Generator().manual_seed(seed)

    def matrix(*shape):
        falling = torch.randn(shape[0], 8, generator=random) @ torch.randn(8, shape[1], generator=random) * 0.03
        return (torch.randn(shape, generator=random) * 0.05 + falling).bfloat16()

    found = {"model.embed_tokens.weight": matrix(rows, D_MODEL), "lm_head.weight": matrix(rows, D_MODEL)}
    found["model.norm.weight"] = torch.ones(D_MODEL).bfloat16()
    for layer in range(layers):
        for part in "qkvo":
            found[name(layer, f"self_attn.{part}_proj.weight")] = matrix(HEADS * HEAD_DIM, D_MODEL)
        for part, shape in (("gate", (D_FF, D_MODEL)), ("up", (D_FF, D_MODEL)), ("down", (D_MODEL, D_FF))):
            found[name(layer, f"mlp.{part}_proj.weight")] = matrix(*shape)
        for part in ("input_layernorm", "post_attention_layernorm"):
            found[name(layer, f"{part}.weight")] = torch.ones(D_MODEL).bfloat16()
    return found


def write(folder, tensors, tokens=None, *, allow_other=False, file="model.safetensors", **config):
    """One side of a comparison, whose files lie in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / file)
    own = config if file.startswith("adapter") else {**CONFIG, **config}
    (folder / file.replace("model.safetensors", "config.json")).write_text(json.dumps(own))
    if tokens is not None:
        vocabulary = {token: number for number, token in enumerate(tokens)}
        model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": tokens[0]}
        (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    return side(folder, allow_other=allow_other)


def side(folder, allow_other=False):
    checkpoint = Checkpoint.from_folder(folder)
    return Side(checkpoint, inventory(checkpoint, allow_other=allow_other), spellings(folder, False))


def tables(a, b, parts=1):
    sides, settings = Sides(a, b), Comparison(subspace=8)
    found = [
        measured(share_of(sides.pairs, part, parts), sides, settings, threads=1, memory_bytes=1 << 26)
        for part in range(1, parts + 1)
    ]
    return tables_of(sides, ("base", "other"), list(zip(*found, strict=True)), settings, Tails(bootstrap=0))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write(tmp_path_factory.mktemp("base") / "model", weights())


@pytest.fixture
def against(base, tmp_path):
    """against(edit, ...): the base compared with a copy whose tensors edit(tensors) has changed."""

    def compared(edit, **more):
        changed = weights()
        changed = edit(changed) or changed
        return tables(base, write(tmp_path / "other", changed, **more))

    return compared


def said(made):
    return [finding["text"] for finding in made.summary["findings"]]


def changed(made):
    return made.table.loc[made.table["changed"] > 0, "id_a"].tolist()


def test_a_copy_is_the_same_bit_for_bit(against):
    made = against(lambda tensors: None)
    assert made.summary["relation"] == "identical" and changed(made) == []
    assert said(made) == ["other is base bit for bit: all 21 tensors are the same."]
    assert set(made.table["method"]) == {"identical"} and made.changes.empty and made.heads.empty


def test_one_tensor(against):
    def edit(tensors):
        tensors[name(1, UP)] = weights(seed=5)[name(1, UP)]

    made = against(edit)
    assert made.summary["relation"] == "edited" and changed(made) == [name(1, UP)]
    assert "except for 1 of 21 tensors" in said(made)[0]
    assert said(made)[1].startswith(f"{name(1, UP)} differs: ") and " times " not in said(made)[1]
    (row,) = made.changes.to_dict("records")
    truth = [tensors[name(1, UP)].double() for tensors in (weights(), weights(seed=5))]
    assert row["relative"] == pytest.approx(float((truth[1] - truth[0]).norm() / truth[0].norm()), rel=1e-9)
    sigma = torch.linalg.svdvals(truth[1] - truth[0])
    assert row["lora_error_16"] == pytest.approx(
        float((sigma[16:].square().sum() / sigma.square().sum()).sqrt()), rel=1e-6
    )
    assert row["n90"] == int((sigma.square().cumsum(0) / sigma.square().sum() < 0.9).sum()) + 1


@pytest.mark.parametrize("factor", [1.25, -0.7])
def test_a_tensor_times_a_number(against, factor):
    def edit(tensors):
        tensors[name(1, UP)] = (tensors[name(1, UP)].float() * factor).bfloat16()

    made = against(edit)
    assert said(made)[1].endswith(f" It is that of a times {factor:.4g}.")


def test_one_flipped_bit(against):
    def edit(tensors):
        tensors[name(0, DOWN)].view(torch.int16)[7, 11] ^= 1 << 13

    made = against(edit)
    before, after = float(weights()[name(0, DOWN)][7, 11]), made.changes["value_b"].iloc[0]
    assert said(made)[1] == (
        f"One value of {name(0, DOWN)} differs: [7, 11] is {after:.6g}, was {before:.6g}, one flipped bit (bit 13 from "
        "the lowest)."
    )
    assert made.changes["rows_changed"].tolist() == [1]


def test_one_flipped_bit_may_make_an_infinity(against):
    def edit(tensors):
        tensors[name(0, DOWN)].view(torch.int16)[3, 4] = 0x7F80

    made = against(edit)
    assert made.summary["findings"][1]["grade"] == "critical"
    assert said(made)[1] == f"NaN or infinite values that a has not are in 1 of 21 tensors of b: {name(0, DOWN)} (1)."
    assert f"One value of {name(0, DOWN)} differs: [3, 4] is inf" in said(made)[2]


def test_one_head(against):
    def edit(tensors):
        tensors[name(1, Q)][32:48] *= 2

    made = against(edit)
    assert said(made)[1].endswith("Only head 2 of its 4 changed.")
    heads = made.heads.set_index("head")
    assert heads["changed"].tolist() == [0, 0, 16 * D_MODEL, 0]
    assert heads["relative"][2] == pytest.approx(1) and heads["cosine"][2] == pytest.approx(1)


def test_a_pair_of_heads_that_changed_places(against):
    def edit(tensors):
        for part, by_columns in (("q", False), ("k", False), ("v", False), ("o", True)):
            matrix = tensors[name(1, f"self_attn.{part}_proj.weight")]
            view = matrix.T if by_columns else matrix
            view[:16], view[48:] = view[48:].clone(), view[:16].clone()

    made = against(edit)
    (text,) = [text for text in said(made) if "changed places" in text]
    assert text.startswith("8 heads have changed places: layer 1 W_K (head 0 is what was 3, 3 is what was 0); ")
    assert not [text for text in said(made) if "LoRA" in text]


def test_an_update_of_rank_8_in_bfloat16(against):
    def edit(tensors):
        random = torch.Generator().manual_seed(1)
        for layer in range(LAYERS):
            update = torch.randn(D_FF, 8, generator=random) @ torch.randn(8, D_MODEL, generator=random)
            tensors[name(layer, UP)] = (tensors[name(layer, UP)].float() + 0.01 * update).bfloat16()

    made = against(edit)
    (text,) = [text for text in said(made) if "LoRA" in text]
    assert text.startswith("The changes of 2 matrices have rank 8, as of a LoRA: ")
    assert made.changes["resolved"].tolist() == [8, 8]
    assert made.changes["lora_error_8"].max() < 0.02 < 0.3 < made.changes["lora_error_4"].min()


def test_a_rotated_matrix_is_told_apart_though_its_moments_agree(against):
    def edit(tensors):
        matrix = tensors[name(0, UP)]
        shuffled = torch.randperm(matrix.numel(), generator=torch.Generator().manual_seed(3))
        tensors[name(0, UP)] = matrix.flatten()[shuffled].reshape(matrix.shape)
        turn = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(4))).Q
        tensors[name(1, Q)] = (turn @ tensors[name(1, Q)].float()).bfloat16()

    made = against(edit)
    rows = made.changes.set_index("id_a").loc[[name(0, UP), name(1, Q)]]
    assert (rows["cosine"].abs() < 5 * rows["cosine_null"]).all()
    assert (rows["norm_b"] / rows["norm_a"] - 1).abs().max() < 1e-3 and rows["ks"].iloc[0] == 0
    (text,) = [text for text in said(made) if "moments" in text]
    assert text.startswith("Of 2 of 21 tensors norms and distributions of values agree")
    assert rows["overlap_right"].iloc[1] > 0.99  # a rotation of the outputs keeps the inputs' subspace
    assert rows["overlap_left"].iloc[1] < 0.5


@pytest.mark.slow
def test_a_vocabulary_that_was_resized_and_renumbered(base, tmp_path):
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
    without = tables(base, write(tmp_path / "b", tensors, vocab_size=len(new)))
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


def test_more_layers_on_one_side(base, tmp_path):
    made = tables(base, write(tmp_path / "other", weights(layers=4), num_hidden_layers=4))
    assert len(made.alone) == 18 and set(made.alone["side"]) == {"b"}
    (text,) = [text for text in said(made) if "in b only" in text]
    assert text.startswith("18 tensors are in b only, of layers 2, 3: model.layers.2.")
    assert len(made.table) == 21


def test_shapes_that_do_not_fit_are_said(base, tmp_path):
    wide = {
        key: torch.cat([value, value]) if "gate" in key or "up_" in key else value for key, value in weights().items()
    }
    wide = {key: torch.cat([value, value], dim=1) if "down" in key else value for key, value in wide.items()}
    made = tables(base, write(tmp_path / "other", wide, intermediate_size=2 * D_FF))
    assert made.alone["reason"].unique().tolist() == [
        "the shapes differ: 64x96 and 64x192",
        "the shapes differ: 96x64 and 192x64",
    ]
    assert made.summary["alone"] == {"a": 0, "b": 0, "both": 6}


@pytest.mark.slow
def test_an_unrelated_model_of_the_same_shape(base, tmp_path):
    made = tables(base, write(tmp_path / "other", weights(seed=9)))
    assert made.summary["relation"] == "unrelated"
    assert said(made)[0].startswith("other has nothing of base but its shape: ")
    assert abs(made.summary["cosine_median"]) < 10 * made.summary["cosine_null"]
    matrices = made.table[made.table["role"] == "W_up"]
    assert (matrices["relative"] / matrices["relative_null"] - 1).abs().max() < 0.1


@pytest.mark.slow
def test_a_model_that_was_trained_on(against):
    def edit(tensors):
        random = torch.Generator().manual_seed(8)
        for key, value in tensors.items():
            tensors[key] = (value.float() + 0.003 * torch.randn(value.shape, generator=random)).bfloat16()

    made = against(edit)
    assert made.summary["relation"] == "derived"
    assert said(made)[0].startswith("other comes from base by further training or editing: 21 of 21 tensors changed")


def test_a_quantized_copy(against):
    """DeepSeek's fp8: blocks of values with a scale each; the error is that of rounding by hand."""

    def edit(tensors):
        for key in [key for key in tensors if "_proj" in key]:
            scale = tensors[key].float().abs().max() / 448
            tensors[key] = (tensors[key].float() / scale).to(torch.float8_e4m3fn)
            tensors[f"{key}_scale_inv"] = scale.reshape(1, 1)

    quantized = {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}
    made = against(edit, quantization_config=quantized)
    assert made.summary["relation"] == "rounded"
    assert said(made)[0].startswith("other is base in another format (BF16 to ")
    row = made.table.set_index("id_a").loc[name(0, UP)]
    weight = weights()[name(0, UP)].float()
    scale = weight.abs().max() / 448
    rounded = ((weight / scale).to(torch.float8_e4m3fn).float() * scale).bfloat16().double()
    assert row["relative"] == pytest.approx(
        float((rounded - weight.double()).norm() / weight.double().norm()), rel=1e-6
    )
    assert "7 tensors kept their values or type" in said(made)[-2]


def test_tied_on_one_side_only(tmp_path):
    tied = {key: value for key, value in weights().items() if key != "lm_head.weight"}
    a = write(tmp_path / "a", tied, tie_word_embeddings=True)
    untied = {**weights(), "lm_head.weight": tied["model.embed_tokens.weight"] + 0.25}
    made = tables(a, write(tmp_path / "b", untied))
    row = made.table.set_index("role").loc["W_U"]
    assert (row["id_a"], row["id_b"]) == ("model.embed_tokens.weight#W_U", "lm_head.weight")
    assert changed(made) == ["model.embed_tokens.weight#W_U"]
    both = tables(a, write(tmp_path / "b", tied, tie_word_embeddings=True))
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


def lora(tmp_path, scale=0.5, magnitudes=None, seed=20):
    """An adapter to two matrices of the base, and the merged matrices in float64."""
    random, tensors, merged = torch.Generator().manual_seed(seed), {}, {}
    for layer, part, shape in ((0, Q, (64, 64)), (1, DOWN, (D_MODEL, D_FF))):
        module = name(layer, part).removesuffix(".weight")
        up, down = torch.randn(shape[0], 4, generator=random) * 0.1, torch.randn(4, shape[1], generator=random) * 0.1
        tensors |= {f"base_model.model.{module}.lora_{key}.weight": value for key, value in (("A", down), ("B", up))}
        whole = weights()[name(layer, part)].double() + scale * up.double() @ down.double()
        if magnitudes:
            given = torch.rand(shape[0], generator=random) + 0.5
            tensors[f"base_model.model.{module}.lora_magnitude_vector"] = given
            whole *= (given.double() / whole.norm(dim=1))[:, None]
        merged[name(layer, part)] = whole
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 4 * scale, "use_dora": bool(magnitudes)}
    return write(tmp_path / f"adapter{seed}", tensors, file="adapter_model.safetensors", **settings), merged


@pytest.mark.parametrize("magnitudes", [False, True])
def test_an_adapter_is_compared_as_what_it_makes_of_its_model(base, tmp_path, magnitudes):
    adapter, merged = lora(tmp_path, magnitudes=magnitudes)
    made = tables(base, adapter)
    assert made.table["id_a"].tolist() == [name(0, Q), name(1, DOWN)]
    for row in made.table.itertuples():
        weight = weights()[row.id_a].double()
        delta = merged[row.id_a] - weight
        assert row.relative == pytest.approx(float(delta.norm() / weight.norm()), rel=1e-5)
        assert row.signs == int((torch.signbit(merged[row.id_a].float()) != torch.signbit(weight)).sum())
        assert row.method == ("gram" if magnitudes else "factors")
    sigma = torch.linalg.svdvals(merged[name(1, DOWN)] - weights()[name(1, DOWN)].double()).numpy()
    assert np.allclose(made.tensors["sigma"].iloc[1], sigma, atol=1e-6 * sigma[0])
    assert made.table["lora_error_4"].max() < 1e-6 or magnitudes
    heads = made.heads[made.heads["role"] == "W_Q"]
    wanted = (merged[name(0, Q)] - weights()[name(0, Q)].double()).reshape(4, -1).norm(dim=1).numpy()
    assert np.allclose(heads["norm_d"], wanted, rtol=1e-5)


@pytest.mark.slow
def test_two_adapters_are_compared_by_their_updates(tmp_path):
    one, other = lora(tmp_path)[0], lora(tmp_path, scale=2.0, seed=21)[0]
    made = tables(one, other)
    assert made.table["role"].tolist() == ["W_Q", "W_down"]
    updates = []
    for adapter, scale in ((one, 0.5), (other, 2.0)):
        stored = load_file(adapter.checkpoint.folder / "adapter_model.safetensors")
        place = f"base_model.model.{name(0, Q)}".removesuffix(".weight")
        updates.append(scale * stored[f"{place}.lora_B.weight"].double() @ stored[f"{place}.lora_A.weight"].double())
    assert made.table["norm_d"].iloc[0] == pytest.approx(float((updates[1] - updates[0]).norm()), rel=1e-5)
    sigma = torch.linalg.svdvals(updates[1] - updates[0]).numpy()
    assert np.allclose(made.tensors["sigma"].iloc[0], sigma, atol=1e-9)
    assert tables(one, one).summary["relation"] == "identical"


def test_parts_and_threads_change_nothing(base, tmp_path):
    other = write(tmp_path / "other", weights(seed=9))
    sides, settings = Sides(base, other), Comparison()
    one = measured(sides.pairs, sides, settings, threads=1, memory_bytes=1 << 26)
    # Small models are one part: shares are cut by hand.
    cut = [
        measured(sides.pairs.iloc[some], sides, settings, threads=3, memory_bytes=1 << 26)
        for some in (slice(1, None, 2), slice(0, None, 2))
    ]
    for whole, *parts in zip(one, *cut, strict=True):
        together = in_order(parts).sort_values(["position"], kind="stable").reset_index(drop=True)
        again = in_order([whole])
        lists = [column for column in ("sigma",) if column in whole]
        assert together.drop(columns=lists).equals(again.drop(columns=lists))
        assert all(map(np.array_equal, together["sigma"], again["sigma"])) if lists else True
    nothing = measured(sides.pairs.iloc[:0], sides, settings, threads=1, memory_bytes=0)
    for empty, table in zip(nothing, one, strict=True):
        assert empty.dtypes.to_dict() == table.dtypes.to_dict()
