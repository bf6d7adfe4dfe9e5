"""A bfloat16 model against copies of it packed by GPTQ and AWQ: the error of each tensor is that of slow numpy."""

import gguf
import numpy as np
import pytest
import torch
from compared_models import name, said, tables, weights, write
from packed_files import bit_stream
from test_comparison_formats import write_gguf

GROUP = 32
AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which output stands at each place of a word


def rounded(weight, bits, *, symmetric):
    """Codes, zero points and scales of a matrix (outputs, inputs), by the nearest of 2^bits levels in each group.

    Codes are (inputs, outputs), the others (groups, outputs).
    """
    groups = weight.double().numpy().T.reshape(-1, GROUP, len(weight))
    top = 2**bits - 1
    if symmetric:
        scale = 2 * np.abs(groups).max(axis=1) / top
    else:
        low, high = np.minimum(groups.min(axis=1), 0), np.maximum(groups.max(axis=1), 0)
        scale = (high - low) / top
    scale = scale.astype(np.float16)
    zero = np.full(scale.shape, (top + 1) // 2) if symmetric else np.rint(-low / scale).astype(int)
    codes = np.rint(groups / scale[:, None].astype(float)) + zero[:, None]
    return np.clip(codes, 0, top).astype(int).reshape(-1, len(weight)), zero, scale


def unpacked(codes, zero, scale, order):
    """W[out, in] = (q - zero) * scale by plain loops over the groups, rounded to float16 as it is read."""
    values = np.empty(codes.shape[::-1])
    for i in range(len(codes)):
        values[:, i] = (codes[i] - zero[order[i]]) * scale[order[i]].astype(float)
    return values.astype(np.float32).astype(np.float16).astype(float)


def gptq(stem, weight, random, *, bits, act_order):
    """Tensors of one matrix as GPTQ stores them, version 1, and the values that they stand for."""
    order = np.arange(weight.shape[1]) // GROUP
    shuffle = random.permutation(weight.shape[1]) if act_order else np.arange(weight.shape[1])
    codes, zero, scale = rounded(weight[:, shuffle], bits, symmetric=True)
    back = np.argsort(shuffle)
    codes, order = codes[back], order[back].astype(np.int32)
    stored = {
        f"{stem}.qweight": bit_stream(codes, bits),
        f"{stem}.qzeros": bit_stream((zero - 1).T, bits).T.contiguous(),
        f"{stem}.scales": torch.from_numpy(scale),
        f"{stem}.g_idx": torch.from_numpy(order),
    }
    return stored, unpacked(codes, zero, scale, order)


def awq(stem, weight):
    """Tensors of one matrix as AWQ stores them, and the values that they stand for."""
    codes, zero, scale = rounded(weight, 4, symmetric=False)

    def words(values):
        made = np.zeros((len(values), values.shape[1] // 8), np.uint32)
        for place, output in enumerate(AWQ_ORDER):
            made |= values[:, output::8].astype(np.uint32) << np.uint32(4 * place)
        return torch.from_numpy(made.view(np.int32))

    stored = {f"{stem}.qweight": words(codes), f"{stem}.qzeros": words(zero), f"{stem}.scales": torch.from_numpy(scale)}
    return stored, unpacked(codes, zero, scale, np.arange(len(codes)) // GROUP)


def packed(pack, tensors=None):
    """All matrices of layers packed; the other tensors are as they were."""
    stored, values = {}, {}
    for key, weight in (tensors or weights()).items():
        if "_proj" in key:
            parts, values[key] = pack(key.removesuffix(".weight"), weight)
            stored |= parts
        else:
            stored[key] = weight
    return stored, values


@pytest.mark.parametrize("kind", ["GPTQ4", "GPTQ8", "GPTQ3", "AWQ4"])
def test_the_error_of_each_packed_tensor_is_that_of_numpy(tmp_path, kind):
    random, bits = np.random.default_rng(0), int(kind[-1])
    if kind == "AWQ4":
        stored, values = packed(awq)
        settings = AWQ
    else:
        stored, values = packed(lambda *given: gptq(*given, random, bits=bits, act_order=bits == 4))
        settings = {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "sym": True, "checkpoint_format": "gptq"}
        settings["desc_act"] = bits == 4
    base = write(tmp_path / "base", weights())
    made = tables(base, write(tmp_path / "packed", stored, quantization_config=settings))
    assert made.alone.empty and len(made.table) == len(weights())
    rows, sigmas = made.table.set_index("id_a"), made.tensors.set_index("id_a")["sigma"]
    assert set(rows["dtype_b"]) == {kind, "BF16"}
    for key, weight in weights().items():
        row, before = rows.loc[key], weight.double().numpy()
        delta = values.get(key, before) - before
        norm = np.linalg.norm(delta)
        assert row["changed"] == (delta != 0).sum(), key
        assert row["norm_d"] == pytest.approx(norm, rel=1e-9, abs=0), key
        assert row["relative"] == pytest.approx(norm / np.linalg.norm(before), rel=1e-9, abs=0), key
        if key in values:
            after = values[key]
            assert row["largest"] == pytest.approx(np.abs(delta).max(), rel=1e-6), key
            assert row["signs"] == ((before * after) < 0).sum(), key
            cosine = (before * after).sum() / np.linalg.norm(before) / np.linalg.norm(after)
            assert row["cosine"] == pytest.approx(cosine, abs=1e-12), key
            np.testing.assert_allclose(sigmas[key], np.linalg.svd(delta, compute_uv=False), rtol=1e-4, atol=1e-6)
    assert made.summary["relation"] == "rounded"
    first, second, *_ = said(made)
    assert first.startswith(f"other is base in another format (BF16 to {kind}): relative change ")
    assert second.startswith(f"BF16 to {kind}: 14 tensors, relative error ")
    assert second.endswith("7 tensors kept their values or type.")
    assert not any("gains" in text or "out of line" in text for text in said(made))


@pytest.mark.parametrize("kind", ["Q8_0", "GPTQ4", "AWQ4"])
def test_a_tensor_that_was_changed_before_it_was_packed_is_out_of_line(tmp_path, kind):
    changed, tensors = name(1, "mlp.up_proj.weight"), weights()
    noise = torch.randn(tensors[changed].shape, generator=torch.Generator().manual_seed(5))
    tensors[changed] = (tensors[changed].float() + 0.3 * tensors[changed].float().std() * noise).bfloat16()
    base = write(tmp_path / "base", weights())
    if kind == "Q8_0":
        other = write_gguf(tmp_path / "packed", tensors, gguf.GGMLQuantizationType.Q8_0)
    elif kind == "AWQ4":
        other = write(tmp_path / "packed", packed(awq, tensors)[0], quantization_config=AWQ)
    else:
        settings = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True, "checkpoint_format": "gptq"}
        stored, _ = packed(lambda *given: gptq(*given, np.random.default_rng(0), bits=4, act_order=False), tensors)
        other = write(tmp_path / "packed", stored, quantization_config=settings)
    made = tables(base, other)
    (text,) = [text for text in said(made) if "out of line" in text]
    assert "1 of 14 tensors is out of line" in text and f"{changed} (0.3" in text.replace("(0.29", "(0.3")


def test_factors_moved_from_norms_into_matrices_are_told_apart_from_rounding(tmp_path):
    """AWQ divides a norm's gains by factors and multiplies the columns of the matrices that read it by them."""
    tensors = weights()
    factors = torch.linspace(0.5, 2, 64)
    norm = name(0, "input_layernorm.weight")
    tensors[norm] = (tensors[norm].float() / factors).bfloat16()
    for part in "qkv":
        key = name(0, f"self_attn.{part}_proj.weight")
        tensors[key] = (tensors[key].float() * factors).bfloat16()
    settings = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}
    stored, _ = packed(awq, tensors)
    base = write(tmp_path / "base", weights())
    made = tables(base, write(tmp_path / "packed", stored, quantization_config=settings))
    assert made.summary["relation"] == "rounded"
    (text,) = [text for text in said(made) if "norm has other gains" in text]
    assert norm in text and "not those of rounding alone" in text
