"""Singular directions against full decompositions, and their tokens against the product with the whole unembedding."""

import live_models
import numpy as np
import pytest
import torch

from weight_atlas.artifacts import write_table
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.circuits.directions import (
    _factor_energies,
    matrix_directions,
    product_directions,
    singular_directions,
    telling,
)
from weight_atlas.circuits.of_checkpoint import norms_of
from weight_atlas.circuits.reading import token_reader
from weight_atlas.families.inventory import inventory
from weight_atlas.figures.singular_directions import directions_figure
from weight_atlas.vocabulary.neurons import neuron_blocks
from weight_atlas.vocabulary.token_classes import token_classes


def same_up_to_sign(found, wanted):
    np.testing.assert_allclose(np.abs((found * wanted).sum(axis=0)), 1, atol=1e-9)


@pytest.mark.parametrize("shape", [(30, 80), (80, 30), (1, 9), (9, 1), (20, 20)])
def test_directions_of_a_matrix(shape):
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).float()
    vectors, sigma = matrix_directions(weight, 4)
    left, wanted, _ = np.linalg.svd(weight.double().numpy(), full_matrices=False)
    count = min(5, *shape)
    np.testing.assert_allclose(sigma, wanted[:count], rtol=1e-9)
    same_up_to_sign(vectors, left[:, :count])


@pytest.mark.parametrize(("k", "d"), [(5, 40), (40, 5), (1, 3)])
def test_directions_of_a_product(k, d):
    left, right = np.random.default_rng(0).standard_normal((2, k, d))
    vectors, sigma = product_directions(left, right)
    wanted_vectors, wanted, _ = np.linalg.svd(left.T @ right)
    rank = min(k, d)
    np.testing.assert_allclose(sigma[:rank], wanted[:rank], rtol=1e-10)
    same_up_to_sign(vectors[:, :rank], wanted_vectors[:, :rank])


def test_the_energies_of_noise_are_those_of_other_factors():
    factors = np.random.default_rng(9).standard_normal((2, 16, 128))
    sigma = np.linalg.svd(factors[0].T @ factors[1], compute_uv=False)[:16]
    np.testing.assert_allclose(_factor_energies(16, 128, 128), sigma**2 / (sigma**2).sum(), rtol=0.25)


FAMILIES = ["llama", "gpt2", "gemma2", "mixtral", "deepseek_v3", "gpt_neox"]


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request, tmp_path_factory):
    model = live_models.with_uneven_norms(request.param, seed=2)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    checkpoint = Checkpoint.from_folder(folder)
    return checkpoint, inventory(checkpoint)


def vocabulary(size, untrained=()):
    """A vocabulary whose first three tokens are special, whose last is none, and of one spelt like markup."""
    texts = [f"t{number}" for number in range(size - 1)] + [""]
    texts[7] = "<b>$x$,\n"
    return token_classes(texts, [*texts[:-1], None], {0, 1, 2}, untrained)


def found_in(saved, untrained=()):
    checkpoint, rows = saved
    size = int(rows[rows["role"].isin(["W_E", "W_U"])]["rows"].max())
    reader = token_reader(checkpoint, rows, vocabulary(size, untrained))
    norms = norms_of(checkpoint, rows)
    return reader, singular_directions(checkpoint, rows, reader, norms, directions=2, tokens=5)


def test_tokens_are_those_of_the_whole_product(saved):
    """Every feed-forward direction, by SVD of the neurons' matrix and the product with all rows of the unembedding."""
    checkpoint, rows = saved
    reader, table = found_in(saved)
    allowed = np.arange(3, reader.readout.vocabulary - 1)
    for block in neuron_blocks(checkpoint, rows, reader.readout):
        own = table[
            (table["kind"] == "W_down") & (table["layer"] == block.layer) & (table["component"] == block.component)
        ]
        own = own[own["expert"].isna() if block.expert is None else (own["expert"] == block.expert).fillna(False)]
        vectors, sigma, _ = np.linalg.svd(block.vectors.double().numpy(), full_matrices=False)
        for row in own.itertuples():
            number = row.direction - 1
            effects = (
                reader.readout.unembedding.double().numpy() @ reader.readout.seen(torch.from_numpy(vectors)).numpy()
            )
            effects = effects[:, number]
            effects *= np.sign(effects[allowed][np.abs(effects[allowed]).argmax()])
            order = allowed[np.argsort(-effects[allowed], kind="stable")]
            np.testing.assert_allclose(row.up_effects, effects[order[:5]], rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(row.down_effects, effects[order[::-1][:5]], rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(effects[list(row.up_ids)], row.up_effects, rtol=1e-3, atol=1e-5)
            assert row.energy == pytest.approx(sigma[number] ** 2 / (sigma**2).sum(), rel=1e-5)
            assert row.gap == pytest.approx(1 - sigma[number + 1] / sigma[number], rel=1e-3, abs=1e-6)
            standard = (effects[allowed] - effects[allowed].mean()) / effects[allowed].std()
            assert row.kurt == pytest.approx((standard**4).mean(), rel=1e-3)
            assert row.skew == pytest.approx((standard**3).mean(), rel=1e-3, abs=1e-3)


def test_every_head_has_its_directions(saved):
    _, rows = saved
    _, table = found_in(saved)
    heads = table[table["kind"] == "OV"]
    outputs = rows[(rows["role"] == "W_O") & (rows["stack"] == "decoder")]
    assert len(heads) == 2 * int(outputs["n_heads"].sum())
    assert (heads["energy"] > 0).all() and heads.groupby(["layer", "head"])["energy"].sum().max() <= 1 + 1e-9
    assert all(values[0] >= abs(low[0]) for values, low in zip(table["up_effects"], table["down_effects"], strict=True))


def test_untrained_and_special_tokens_are_left_out_and_counted(saved):
    reader, table = found_in(saved, [5, 9])
    named = {int(each) for name in ("up_ids", "down_ids") for ids in table[name] for each in ids}
    assert not named & {0, 1, 2, 5, 9} and reader.left_out["untrained"] == 2 and reader.left_out["special"] == 3
    assert reader.left_out["without a token"] >= 1


def test_tables_and_figures_take_tokens_that_look_like_markup(saved, tmp_path):
    _, table = found_in(saved)
    short = telling(table, 3)
    assert (
        list(short["kind"]) == ["OV"] * 3 + ["W_down"] * 3
        and short["kurt"][0] == table[table["kind"] == "OV"]["kurt"].max()
    )
    write_table(tmp_path / "short.csv", short)
    write_table(tmp_path / "all.parquet", table)
    assert directions_figure(table).axes


def test_matrices_without_numbers_are_left_out(tmp_path):
    model = live_models.tiny("llama", seed=2)
    model.model.layers[0].mlp.down_proj.weight.data.zero_()
    model.model.layers[1].mlp.down_proj.weight.data[3, 4] = float("nan")
    model.model.layers[1].self_attn.o_proj.weight.data.zero_()
    model.save_pretrained(tmp_path)
    checkpoint = Checkpoint.from_folder(tmp_path)
    _, table = found_in((checkpoint, inventory(checkpoint)))
    kinds = table.groupby("kind")["layer"].agg(set)
    assert kinds["W_down"].isdisjoint({0, 1}) and 1 not in kinds["OV"] and 0 in kinds["OV"]
