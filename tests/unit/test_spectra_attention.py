"""Attention kernels from their factors, against the dense d x d route, for every kind of attention."""

import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.spectra.attention_factors import attention_blocks, head_factors, norm_gains
from weight_atlas.spectra.attention_kernels import gaussian_kernel, kernel, kernel_measures, milestones
from weight_atlas.spectra.attention_table import attention_kernels, head_table, summary_by_head, summary_by_layer
from weight_atlas.spectra.choice import choose_heads, choose_matrices
from weight_atlas.spectra.ranks import rank_measures

D = 48


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def rows_of(weights, *, layer=0, component="", heads=None):
    """Inventory rows for weights by role; heads: role -> (n_heads, head_dim)."""
    heads = heads or {}
    return [
        {
            **{"id": f"{layer}.{component}{role}", "role": role, "stack": "decoder", "layer": layer},
            **{"component": component, "expert": pd.NA, "rows": len(weight), "cols": weight.shape[1]},
            **dict(zip(("n_heads", "head_dim"), heads.get(role, (pd.NA, pd.NA)), strict=True)),
        }
        for role, weight in weights.items()
    ]


def model(weights, heads, **kwargs):
    """(matrices, load) of a model with one layer."""
    rows = rows_of(weights, heads=heads, **kwargs)
    return pd.DataFrame(rows), lambda row: weights[row.role]


def mha(n_heads, n_kv_heads, head_dim, d=D):
    weights = {
        "W_Q": draw(n_heads * head_dim, d, seed=1),
        "W_K": draw(n_kv_heads * head_dim, d, seed=2),
        "W_V": draw(n_kv_heads * head_dim, d, seed=3),
        "W_O": draw(d, n_heads * head_dim, seed=4),
    }
    heads = {role: (n_heads if role in ("W_Q", "W_O") else n_kv_heads, head_dim) for role in weights}
    return weights, heads


def dense(weights, n_heads, n_kv_heads, head_dim):
    """(QK, OV) kernels d x d of every head, cut out by hand."""
    wide = {role: weight.double().numpy() for role, weight in weights.items()}
    for head in range(n_heads):
        kv = head // (n_heads // n_kv_heads)
        query = wide["W_Q"][head * head_dim : (head + 1) * head_dim]
        key, value = (wide[role][kv * head_dim : (kv + 1) * head_dim] for role in ("W_K", "W_V"))
        yield query.T @ key, wide["W_O"][:, head * head_dim : (head + 1) * head_dim] @ value


def assert_same(row, matrix, rank):
    """All that the table says about a kernel, from the dense matrix."""
    sigma = np.linalg.svd(matrix, compute_uv=False)[:rank]
    values = np.linalg.eigvals(matrix)
    values = values[np.argsort(-np.abs(values))][:rank]
    np.testing.assert_allclose(row.singular_values, sigma, rtol=1e-9, atol=1e-13 * sigma[0])
    modulus = np.hypot(row.eigenvalues_real, row.eigenvalues_imag)
    np.testing.assert_allclose(modulus, np.abs(values), atol=1e-10 * np.abs(values).max())
    assert np.sum(row.eigenvalues_real) == pytest.approx(np.trace(matrix), abs=1e-10 * sigma.sum())
    assert row.erank == pytest.approx(rank_measures(sigma)["erank"], rel=1e-9)
    assert row.frobenius == pytest.approx(np.linalg.norm(matrix), rel=1e-12)
    asymmetry = np.linalg.norm(matrix - matrix.T) / np.linalg.norm(matrix)
    assert row.asymmetry == pytest.approx(asymmetry, rel=1e-10)
    assert row.head_dim == rank or rank == len(matrix)


@pytest.mark.parametrize(
    ("n_heads", "n_kv_heads", "head_dim"),
    [(4, 4, 12), (8, 2, 6), (6, 1, 8), (4, 2, 32), (1, 1, 20), (2, 2, 64)],
    ids=["MHA", "GQA", "MQA", "wide heads", "one head", "head_dim above d"],
)
def test_kernels_equal_the_dense_route(n_heads, n_kv_heads, head_dim):
    weights, heads = mha(n_heads, n_kv_heads, head_dim)
    table = attention_kernels(*model(weights, heads), threads=2)
    assert len(table) == 2 * n_heads and (table["status"] == "ok").all()
    by_circuit = {circuit: list(rows.itertuples()) for circuit, rows in table.groupby("circuit")}
    for head, (scores, writes) in enumerate(dense(weights, n_heads, n_kv_heads, head_dim)):
        assert by_circuit["QK"][head].head == head
        assert by_circuit["QK"][head].kv_head == head // (n_heads // n_kv_heads)
        assert_same(by_circuit["QK"][head], scores, min(head_dim, D))
        assert_same(by_circuit["OV"][head], writes, min(head_dim, D))


@pytest.mark.parametrize("query_rank", [None, 20])
def test_latent_attention_equals_the_dense_route(query_rank):
    n_heads, plain, rotary, value, rank = 4, 10, 4, 8, 16
    weights = {
        "W_KV_a": draw(rank + rotary, D, seed=1),
        "W_KV_b": draw(n_heads * (plain + value), rank, seed=2),
        "W_O": draw(D, n_heads * value, seed=3),
    }
    queries = draw(n_heads * (plain + rotary), D, seed=4)
    heads = {"W_KV_b": (n_heads, plain + value), "W_O": (n_heads, value)}
    if query_rank:
        weights |= {"W_Q_a": draw(query_rank, D, seed=5), "W_Q_b": draw(n_heads * (plain + rotary), query_rank, seed=6)}
        queries = weights["W_Q_b"].double() @ weights["W_Q_a"].double()
        heads["W_Q_b"] = (n_heads, plain + rotary)
    else:
        weights["W_Q"], heads["W_Q"] = queries, (n_heads, plain + rotary)
    table = attention_kernels(*model(weights, heads))
    down, up = weights["W_KV_a"].double(), weights["W_KV_b"].double().reshape(n_heads, plain + value, rank)
    for row in table.itertuples():
        own, shared = up[row.head] @ down[:rank], down[rank:]
        if row.circuit == "QK":
            keys = torch.cat([own[:plain], shared])
            query = queries.double().reshape(n_heads, plain + rotary, D)[row.head]
            assert_same(row, (query.T @ keys).numpy(), plain + rotary)
        else:
            outputs = weights["W_O"].double().reshape(D, n_heads, value)[:, row.head]
            assert_same(row, (outputs @ own[plain:]).numpy(), value)


@pytest.mark.parametrize("layout", ["transposed blocks", "per head", "blocks"])
def test_fused_weights_come_through_the_families(layout, tmp_path):
    from safetensors.torch import save_file

    from weight_atlas.artifacts import write_json
    from weight_atlas.checkpoint.checkpoint import Checkpoint
    from weight_atlas.families.inventory import inventory
    from weight_atlas.families.pieces import load_piece, matrices

    n_heads, head_dim = 4, 12
    weights, _ = mha(n_heads, n_heads, head_dim)
    q, k, v, o = (weights[role] for role in ("W_Q", "W_K", "W_V", "W_O"))
    fused = torch.cat([q, k, v])
    if layout == "transposed blocks":
        config = {"architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_head": n_heads, "n_embd": D, "vocab_size": 9}
        tensors = {"h.0.attn.c_attn.weight": fused.T, "h.0.attn.c_proj.weight": o.T, "wte.weight": draw(9, D, seed=9)}
    elif layout == "per head":
        config = {"architectures": ["GPTNeoXForCausalLM"], "num_hidden_layers": 1, "num_attention_heads": n_heads}
        config |= {"hidden_size": D, "vocab_size": 9}
        by_head = torch.stack([part.reshape(n_heads, head_dim, D) for part in (q, k, v)], 1).reshape(-1, D)
        names = ("query_key_value", by_head), ("dense", o)
        tensors = {f"gpt_neox.layers.0.attention.{name}.weight": weight for name, weight in names}
    else:
        config = {"architectures": ["Phi3ForCausalLM"], "num_hidden_layers": 1, "num_attention_heads": n_heads}
        config |= {"num_key_value_heads": n_heads, "hidden_size": D, "vocab_size": 9, "intermediate_size": 20}
        tensors = {"model.layers.0.self_attn.qkv_proj.weight": fused, "model.layers.0.self_attn.o_proj.weight": o}
    save_file({name: weight.contiguous() for name, weight in tensors.items()}, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", config)
    checkpoint = Checkpoint.from_folder(tmp_path)
    table = attention_kernels(matrices(inventory(checkpoint)), lambda row: load_piece(checkpoint, row))
    assert len(table) == 2 * n_heads
    for row in table.itertuples():
        scores, writes = list(dense(weights, n_heads, n_heads, head_dim))[row.head]
        assert_same(row, scores if row.circuit == "QK" else writes, head_dim)


def test_ill_conditioned_factors_do_not_lose_small_singular_values():
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, 16, 80))
    left *= np.logspace(0, -7, 16)[:, None]
    left[3] = left[2]
    sigma = np.linalg.svd(left.T @ right, compute_uv=False)[:16]
    np.testing.assert_allclose(kernel(left, right).singular_values[:15], sigma[:15], rtol=1e-6)


def test_measures_of_known_kernels():
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.standard_normal((30, 8)))[0].T
    symmetric = kernel_measures(kernel(basis, basis))
    assert symmetric["asymmetry"] == pytest.approx(0, abs=1e-7)
    assert symmetric["positivity"] == pytest.approx(1) and symmetric["positive_share"] == 1
    assert symmetric["erank"] == pytest.approx(8) and symmetric["eigen_erank"] == pytest.approx(8)
    turned = kernel_measures(kernel(np.concatenate([basis[4:], -basis[:4]]), basis))
    assert turned["asymmetry"] == pytest.approx(2) and turned["complex_share"] == 1
    assert kernel_measures(kernel(basis, -basis))["positivity"] == pytest.approx(-1)
    assert milestones(np.array([3.0, 1.0, 0.1])) == {0.5: 1, 0.75: 1, 0.9: 2, 0.95: 2, 0.99: 2}


def test_gaussian_heads_lie_at_their_null():
    null = gaussian_kernel(32, 256, 256)
    assert null["asymmetry"] == pytest.approx(2**0.5, rel=0.02)
    weights, heads = mha(8, 8, 32, d=256)
    heads_of = attention_kernels(*model(weights, heads))
    assert heads_of["erank_relative"].between(0.97, 1.03).all()
    assert (heads_of["asymmetry"] - heads_of["asymmetry_null"]).abs().max() < 0.1


def test_what_cannot_be_formed_says_why():
    weights, heads = mha(2, 2, 8)
    weights["W_Q"][:8] = 0
    weights["W_O"][0, 9] = torch.nan
    table = attention_kernels(*model(weights, heads))
    assert table["status"].tolist() == ["zero", "ok", "ok", "not finite"]
    assert np.isnan(table["erank"][0]) and len(table["singular_values"][3]) == 0
    del weights["W_K"]
    table = attention_kernels(*model(weights, {**heads, "W_V": (pd.NA, pd.NA)}))
    assert table["status"].tolist() == ["no W_K", "heads of W_V are not known"]
    assert table["head"].isna().all() and head_table(table).empty and summary_by_head(table).empty
    assert attention_kernels(model(weights, heads)[0].head(0), None).empty


def test_cross_attention_is_a_module_of_its_own_and_may_be_oblong():
    weights, heads = mha(2, 2, 8)
    other = {"W_Q": draw(16, D, seed=8), "W_K": draw(16, 30, seed=9)}
    table = pd.DataFrame(rows_of(weights, heads=heads) + rows_of(other, heads=heads, component="cross_attention"))
    both = {"": weights, "cross_attention": other}
    kernels = attention_kernels(table, lambda row: both[row.component][row.role])
    cross = kernels[(kernels["component"] == "cross_attention") & (kernels["circuit"] == "QK")].iloc[1]
    exact = np.linalg.svd((other["W_Q"][8:].double().T @ other["W_K"][8:].double()).numpy(), compute_uv=False)
    np.testing.assert_allclose(cross["singular_values"], exact[:8], rtol=1e-10)
    assert len(cross["eigenvalues_real"]) == 0 and np.isnan(cross["asymmetry"])


def test_gain_and_scale_are_folded_where_asked():
    weights, heads = mha(4, 2, 12)
    gain = np.linspace(0.5, 2, D)
    rows, load = model(weights, heads)
    table = attention_kernels(rows, load, gains={("decoder", 0): gain}, scaled=True)
    folded = {role: weights[role].double() * torch.from_numpy(gain) for role in ("W_Q", "W_K", "W_V")}
    for row in table.itertuples():
        scores, writes = list(dense({**weights, **folded}, 4, 2, 12))[row.head]
        assert_same(row, scores / 12**0.5 if row.circuit == "QK" else writes, 12)
    assert table["folded"].all() and not attention_kernels(rows, load)["folded"].any()


def test_norms_before_attention_are_found_by_their_place():
    places = [
        *(("decoder", 2, "pre_attention"), ("decoder", 2, "pre_mlp"), ("decoder", 3, "post_attention")),
        *(("decoder", 4, "pre_attention"), ("decoder", 4, "pre_attention"), ("encoder", 2, "pre_attention")),
    ]
    rows = pd.DataFrame(places, columns=["stack", "layer", "component"]).assign(role="norm")
    bias = {"stack": "decoder", "layer": 5, "component": "pre_attention", "role": "bias"}
    gains = norm_gains(pd.concat([rows, pd.DataFrame([bias])]), lambda row: torch.full((3,), 1.5))
    # Layer 4 has a norm each for queries and keys.
    assert list(gains) == [("decoder", 2), ("encoder", 2)] and gains["decoder", 2].tolist() == [1.5] * 3


def test_labels_and_summaries():
    heads = pd.DataFrame(
        {
            **{"stack": "decoder", "component": "", "circuit": "QK", "status": "ok"},
            "layer": pd.array([0] * 4 + [1] * 4, dtype="Int64"),
            "head": pd.array([0, 1, 2, 3] * 2, dtype="Int64"),
            "erank": [1.0, 2, 3, 4, 8, 7, 6, 5],
            **{"erank_null": [2.5] * 4 + [6.5] * 4, "erank_null_sd": 0.05},
            **dict.fromkeys(("singular_values", "eigenvalues_real", "eigenvalues_imag")),
        }
    )
    rising = ["LOW-RANK", "MID", "MID", "HIGH-RANK"]
    assert head_table(heads)["label"].tolist() == [*rising, *rising[::-1]]
    assert (head_table(heads[heads["head"] < 3])["label"] == "").all()
    assert (head_table(heads.assign(erank_null_sd=1.0))["label"] == "").all()
    assert head_table(heads.assign(erank_null=9.0))["label"].tolist() == [*rising[:3], "MID", "MID", *rising[2::-1]]
    by_layer = summary_by_layer(heads)
    assert by_layer["mean"].tolist() == [2.5, 6.5] and by_layer["std"][0] == pytest.approx(np.std([1, 2, 3, 4]))
    by_head = summary_by_head(heads)
    assert by_head["mean"].tolist() == [4.5] * 4 and by_head["max"].tolist() == [8, 7, 6, 5]


@pytest.mark.parametrize(("head_dim", "width", "n_heads"), [(2, 8, 4), (8, 24, 8), (16, 16, 4), (64, 96, 6)])
def test_random_heads_have_no_label_and_planted_ones_do(head_dim, width, n_heads):
    random = np.random.default_rng([head_dim, width])
    rows, weights = [], {}
    for layer in range(8):
        for role in ("W_Q", "W_K", "W_V", "W_O"):
            shape = (width, head_dim * n_heads) if role == "W_O" else (head_dim * n_heads, width)
            weight = random.standard_normal(shape)
            if role == "W_Q" and layer == 5 and head_dim > 2:
                weight[head_dim : 2 * head_dim, 3:] *= 0.01
            weights[role, layer] = torch.from_numpy(weight)
            rows += [dict(zip(("rows", "cols"), shape, strict=True), role=role, layer=layer)]
    matrices = pd.DataFrame(rows).assign(
        id=range(len(rows)), stack="decoder", component="", expert=pd.NA, n_heads=n_heads, head_dim=head_dim
    )
    kernels = attention_kernels(matrices, lambda row: weights[row.role, row.layer])
    heads = head_table(kernels)
    planted = (heads["layer"] == 5) & (heads["head"] == 1) & (heads["circuit"] == "QK") & (head_dim > 2)
    assert (heads.loc[planted, "label"] == "LOW-RANK").all() and planted.sum() == (head_dim > 2)
    assert (heads.loc[~planted, "label"] == "").all()
    assert (summary_by_head(kernels[kernels["layer"] != 5])["category"] == "").all()


def test_choices():
    kernels = pd.DataFrame({"layer": [0, 0, 5, 5, 9, 9], "head": [0, 1] * 3, "circuit": "QK"})
    chosen = choose_heads(kernels, ["middle:1", "-1:0", "0:0", "77:0"])
    assert chosen[["layer", "head"]].to_numpy().tolist() == [[5, 1], [9, 0], [0, 0]]
    with pytest.raises(AtlasError, match="neither a number"):
        choose_heads(kernels, ["centre:0"])
    table = pd.DataFrame({"id": list("abcd"), "role": ["W_E", "W_up", "W_up", "W_up"]})
    table["layer"], table["expert"] = pd.array([pd.NA, 0, 1, 1], "Int64"), pd.array([pd.NA, pd.NA, 0, 1], "Int64")
    assert list(choose_matrices(table, ["W_up:last:1", "W_E", "W_up:first", "W_Q:first"])["id"]) == ["d", "a", "b"]


def test_blocks_leave_experts_and_other_roles_out():
    weights, heads = mha(2, 2, 8)
    rows = pd.DataFrame(rows_of({**weights, "W_up": draw(4, D, seed=0)}, heads=heads))
    (block,) = attention_blocks(rows)
    assert set(block.rows) == set(weights)
    load = lambda row: weights[row.role]  # noqa: E731
    head, kv_head, left, right = next(iter(head_factors(block, "QK", load)))
    assert (head, kv_head, left.shape, right.dtype) == (0, 0, (8, D), np.float64)
