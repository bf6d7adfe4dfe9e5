"""Cascades against plain passes with hooks, and the labels of what becomes of an edit."""

import live_models
import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.edits import edited, zero
from weight_atlas.live.windows import Windows
from weight_atlas.vocabulary.cascade import _compared, cascade, cascade_of_text
from weight_atlas.vocabulary.super_weight_cards import CASCADE, cascade_label, cascade_record

OTHERS = [name for name in CASCADE if name != "kl"]


def residuals(live, ids):
    seen = []

    def see(module, inputs, output):
        seen.append(output if torch.is_tensor(output) else output[0])

    hooks = [layer.register_forward_hook(see) for layer in live.layers]
    logits = live.model(ids).logits
    for hook in hooks:
        hook.remove()
    return seen, logits


def entropies(logits):
    return torch.distributions.Categorical(logits=logits.double()).entropy()


@pytest.fixture(scope="module")
def case():
    live = anatomy(live_models.tiny("llama", sharp=True))
    place = live_models.plant(live, 1, 7, 11)
    ids = torch.randint(5, 300, (3, 6), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 1
    return live, place, ids


def test_agrees_with_hooks_and_the_final_norm(case):
    live, place, ids = case
    scored = torch.ones_like(ids, dtype=torch.bool)
    scored[1:, :4] = False  # as of windows that overlap
    table = cascade(live, Windows(ids, scored), [place], k=2, factor=0.0)
    predicting = torch.nn.functional.pad(scored[:, 1:], (0, 1))
    first = torch.arange(6).expand(3, 6) == 0
    classes = (("all", predicting), ("first", first), ("others", predicting & ~first))
    assert [int(chosen.sum()) for _, chosen in classes] == [5 + 2 + 2, 3, 4 + 2 + 2]
    assert sorted(table.layer.unique()) == [1, 2, 3]
    before, _ = residuals(live, ids)
    with edited(live, [zero(place)]):
        after, edited_logits = residuals(live, ids)
    lens = lambda h: live.model.lm_head(live.model.model.norm(h))  # noqa: E731
    for layer in (1, 2, 3):
        p, q = lens(before[layer]), lens(after[layer])
        kl = torch.nn.functional.kl_div(
            q.double().log_softmax(-1), p.double().log_softmax(-1), log_target=True, reduction="none"
        ).sum(-1)
        cosine = torch.cosine_similarity(before[layer].double(), after[layer].double(), dim=-1)
        norm = after[layer].double().norm(dim=-1)
        top = q.double().softmax(-1).topk(2).values
        for position, chosen in classes:
            row = table[(table.layer == layer) & (table.position == position)].iloc[0]
            assert row.kl == pytest.approx(float(kl[chosen].mean()), rel=1e-3, abs=1e-5)
            delta = entropies(q)[chosen].mean() - entropies(p)[chosen].mean()
            assert row.delta_entropy == pytest.approx(float(delta), rel=1e-3, abs=1e-4)
            assert row.margin_edited == pytest.approx(float((top[..., 0] - top[..., 1])[chosen].mean()), abs=1e-4)
            assert row.residual_cosine == pytest.approx(float(cosine[chosen].mean()), abs=1e-5)
            assert row.residual_norm_edited == pytest.approx(float(norm[chosen].mean()), rel=1e-4)
            assert row.positions == chosen.sum()
    assert torch.allclose(lens(after[3]), edited_logits, atol=1e-4)


@pytest.mark.parametrize("layout", ["gemma2", "cohere", "gpt2", "olmo2", "mixtral"])
def test_the_last_layer_reads_as_the_model_says(layout):
    """Final norm, softcap and scale of the logits are the model's own."""
    live = anatomy(live_models.tiny(layout, sharp=True))
    projection = next(p for p in live.projections if p.layer == 1)
    place = projection.coordinate(2, 3, 0 if projection.stacked else None)
    ids = torch.randint(5, 300, (1, 7), generator=torch.Generator().manual_seed(0))
    table = cascade_of_text(live, ids, [place], factor=-5.0, k=2)
    last = table[table.layer == 3]
    np.testing.assert_allclose(last.entropy, entropies(live.model(ids).logits)[0], rtol=1e-4, atol=1e-4)
    assert last.kl.max() > 0
    nothing = cascade(live, Windows(ids, ids > 0), [place], factor=1.0, k=2)
    assert (nothing.kl == 0).all() and (nothing.delta_entropy == 0).all()
    np.testing.assert_allclose(nothing.residual_cosine, 1)


def test_nothing_to_follow_is_an_empty_table(case):
    live, _, ids = case
    assert cascade(live, Windows(ids, ids > 0), [], factor=0.0, k=2).empty
    assert cascade_of_text(live, ids[:1], [], factor=0.0, k=2).empty


@pytest.mark.parametrize("size", [1e-5, 1e-3, 0.1])
def test_small_divergences_are_right(size):
    """KL of about size^2 / 2: differences of float32 logarithms would drown it."""
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(1, 40, 2000, generator=generator)
    changed = logits + size * torch.randn(1, 40, 2000, generator=generator)
    log_p, log_q = (long_log_softmax(each) for each in (logits, changed))
    slow = (np.exp(log_p) * (log_p - log_q)).sum(-1)[0]
    found = _compared(logits, changed, 2)["kl"][0]
    assert (found > 0).all()
    np.testing.assert_allclose(found, slow.astype(float), rtol=1e-6, atol=1e-15)
    assert (_compared(logits, logits, 2)["kl"] == 0).all()


def long_log_softmax(logits):
    """In the longest floats that numpy has."""
    values = logits.double().numpy().astype(np.longdouble)
    values -= values.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


def test_tokens_that_a_model_forbids_do_not_count():
    logits = torch.tensor([[[0.0, 1.0, float("-inf"), 2.0]]])
    changed = torch.tensor([[[0.5, 1.0, float("-inf"), float("-inf")]]])
    found = _compared(logits, logits, 2)
    assert found["kl"].item() == 0 and found["entropy"].item() == pytest.approx(
        entropies(logits[..., [0, 1, 3]]).item()
    )
    assert np.isfinite(_compared(logits, changed, 2)["kl"].item())
    assert np.isfinite(_compared(changed, logits, 2)["kl"].item())


@pytest.mark.parametrize(
    ("kl", "label"),
    [
        ([1.0, 0.8, 0.2], "dampening"),
        ([0.1, 0.5, 0.6], "amplifying"),
        ([0.1, 0.15, 0.9], "accelerating"),
        ([0.5, 0.6, 0.55], "stable"),
        ([1e-6, 2e-5, 5e-5], "stable"),
        ([0.3], "stable"),
        ([0.0, 0.0, 2.0], "accelerating"),
        # Twice what the lower half adds is not yet accelerating, nor is twice the first more than twice.
        ([0.125, 0.25, 0.5], "amplifying"),
        ([0.125, 0.25, 0.501], "accelerating"),
        ([0.125, 0.25], "stable"),
        ([0.125, 0.2501], "amplifying"),
        ([0.25, 0.5, 0.125], "stable"),
        ([0.25, 0.5, 0.1249], "dampening"),
        # Of four layers the second is the middle.
        ([0.125, 0.25, 0.5, 0.5], "amplifying"),
        ([0.125, 0.25, 0.25, 0.51], "accelerating"),
        # A fall at first adds nothing.
        ([0.5, 0.1, 1.2], "accelerating"),
    ],
)
def test_labels(kl, label):
    assert cascade_label(kl) == label


def test_the_thresholds_of_labels_can_be_set():
    assert cascade_label([0.1, 0.14, 0.16], ratio=1.5) == "amplifying"
    assert cascade_label([0.1, 0.11, 0.16], ratio=1.5) == "accelerating"
    assert cascade_label([0.1, 0.15, 0.9], ratio=10.0) == "stable"
    assert cascade_label([1e-6, 2e-5, 5e-5], smallest=1e-6) == "amplifying"
    rows = [(0, layer, "all", kl) for layer, kl in enumerate([0.1, 0.11, 0.16])]
    table = pd.DataFrame(rows, columns=["target", "layer", "position", "kl"]).assign(**dict.fromkeys(OTHERS, 0.0))
    assert cascade_record(table, 0)["label"] == "stable"
    assert cascade_record(table, 0, ratio=1.5)["label"] == "accelerating"
    assert cascade_record(table, 0, smallest=0.2, ratio=1.0)["label"] == "stable"
