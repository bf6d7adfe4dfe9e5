"""Two models compared, where what differs was planted: it is found as what it is, in words too."""

import numpy as np
import pytest
import torch
from compared_models import D_FF, D_MODEL, DOWN, LAYERS, UP, Q, changed, name, said, tables, weights, write

from weight_atlas.comparison.measure import measured
from weight_atlas.comparison.sides import Sides
from weight_atlas.comparison.table import in_order
from weight_atlas.settings.comparison import Comparison


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
