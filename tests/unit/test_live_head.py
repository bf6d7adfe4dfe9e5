"""The head applied to chunks of positions gives the model's own logits, and the logits of a batch never exist whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from live_models import LAYOUTS, marks_of, plant, random_prompts, tiny
from torch.utils._python_dispatch import TorchDispatchMode

from weight_atlas.live import head as head_module
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.batched_scoring import score_edits
from weight_atlas.live.edits import scale, zero
from weight_atlas.live.scoring import score_windows
from weight_atlas.live.shortcuts import Shortcuts, shortcuts_of
from weight_atlas.live.windows import Windows, fixed_windows
from weight_atlas.settings.vocabulary import Interventions
from weight_atlas.super_weights.recording import record
from weight_atlas.vocabulary.cascade import cascade
from weight_atlas.vocabulary.interventions import mean_inputs, measure_interventions
from weight_atlas.vocabulary.prediction_measures import prediction_measure

LENGTH = 24
WINDOWS = fixed_windows(np.random.default_rng(0).integers(5, 300, 160), window=LENGTH, prefix=[1])
FEW_DRAWS = Interventions(draws=2, shift_draws=1)
# Beside every layout of the MLP, each thing that families do between the last layer and the logits.
HEADS = {
    **{layout: (layout, {}) for layout in LAYOUTS},
    "softcap": ("gemma2", {"final_logit_softcapping": 2.0, "query_pre_attn_scalar": 16}),
    "scaled": ("cohere", {"logit_scale": 0.0625}),
    "divided": ("granite", {"logits_scaling": 8.0}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "bias": ("phi", {}),
}
FOLLOWED = {"gemma2", "softcap", "scaled", "divided"}


@pytest.fixture
def few_positions(monkeypatch):
    """Five positions to a product, three to a part."""
    monkeypatch.setattr(head_module, "LOGITS", 5 * 300)
    monkeypatch.setattr(head_module, "COMPARED", 3 * 300)
    monkeypatch.setattr(head_module, "BLOCK", 128)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [pytest.param(name, marks=marks_of(name)) for name in HEADS])
@torch.no_grad()
def test_chunks_are_the_models_own_logits(name, dtype, few_positions):
    layout, settings = HEADS[name]
    model = tiny(layout, **settings).to(dtype)
    if name == "bias":
        model.get_output_embeddings().bias.data.normal_()
    live = anatomy(model)
    assert live.head.chunked and live.head.bare == (name not in FOLLOWED)
    whole = model(WINDOWS.ids[:2], use_cache=False).logits
    own = {module: module.__dict__.get("forward") for module in model.modules()}
    parts: list[list[torch.Tensor]] = [[], []]
    for number, part, logits in live.head.chunks(live.head.states(WINDOWS.ids[:2])):
        assert part.start == sum(map(len, parts[number])) and len(logits) <= 3
        parts[number].append(logits)
    assert own == {module: module.__dict__.get("forward") for module in model.modules()}
    tolerance = 1e-6 if dtype == torch.float32 else 0.02
    assert torch.allclose(torch.stack([torch.cat(each) for each in parts]), whole, rtol=tolerance, atol=tolerance)
    few = live.head.states(WINDOWS.ids[:2], torch.tensor([3, 20]))
    assert torch.allclose(live.head.logits(few[0]), whole[0, [3, 20]], rtol=tolerance, atol=tolerance)


@torch.no_grad()
def test_a_head_that_is_hooked_or_replaced_is_called(monkeypatch):
    """As libraries do that keep weights elsewhere, or that measure."""
    monkeypatch.setattr(head_module, "BLOCK", 128)
    live = anatomy(tiny("llama"))
    head, states = live.model.get_output_embeddings(), live.head.states(WINDOWS.ids[:1])[0]
    plain = live.head.logits(states)
    with_hook = head.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert torch.allclose(live.head.logits(states), 2 * plain)
    with_hook.remove()
    own = head.forward
    head.forward = lambda inputs: 3 * own(inputs)
    assert torch.allclose(live.head.logits(states), 3 * plain)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("llama", marks=pytest.mark.slow),
        "gemma2",
        pytest.param("scaled", marks=pytest.mark.slow),
        "mixtral",
    ],
)
def test_sums_do_not_depend_on_the_chunks(name, monkeypatch):
    """Windows, variants with and without restarts, and single measures, against all logits at once."""
    layout, settings = HEADS[name]
    live = anatomy(tiny(layout, sharp=True, **settings))
    place = plant(live, 2, 9, 21)
    variants = [(zero(place),), (scale(Coordinate(0, None, None, role="W_U"), 0.5),)]
    route = shortcuts_of(live, WINDOWS.ids[:1], variants)
    assert route.takes(live, variants[0])

    def sums():
        measure = prediction_measure(torch.arange(20))
        found = measure_interventions(live, WINDOWS.first(2), [place], measure, FEW_DRAWS, factor=0.0)
        numbers = [score_windows(live, WINDOWS, batch_size=3, measure=measure)]
        numbers += score_edits(live, WINDOWS, variants, route, batch_size=16) + score_edits(
            live, WINDOWS, variants, Shortcuts(), batch_size=16
        )
        numbers += [found.windows.drop(columns="kind").fillna(-1), found.changes]
        numbers.append(
            cascade(live, WINDOWS.first(2), [place, Coordinate(1, 0, 0, place.expert)], factor=0.0, k=2).drop(
                columns="position"
            )
        )
        return numbers

    whole = sums()
    monkeypatch.setattr(head_module, "LOGITS", 10 * 300)
    monkeypatch.setattr(head_module, "COMPARED", 4 * 300)
    for one, other in zip(whole, sums(), strict=True):
        assert len(one) and np.allclose(one.to_numpy(float), other.to_numpy(float), rtol=1e-5, atol=1e-6)


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation makes; parameters and views of them do not count."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.size = 0
        self.known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        made = output if isinstance(output, tuple | list) else (output,)
        new = [each for each in made if torch.is_tensor(each) and each.untyped_storage().data_ptr() not in self.known]
        self.size = max([self.size, *(each.untyped_storage().nbytes() // each.element_size() for each in new)])
        return output


@pytest.mark.parametrize("work", ["windows", "restarted", "plain", "measures", "cascade", "hooks"])
@pytest.mark.parametrize("layout", ["llama", pytest.param("gemma2", marks=pytest.mark.slow)])
def test_no_step_makes_more_logits_than_one_chunk(layout, work, monkeypatch):
    vocabulary, positions = 20_000, 4
    monkeypatch.setattr(head_module, "LOGITS", positions * vocabulary)
    settings = LAYOUTS[layout] | {"tie_word_embeddings": False}
    live = anatomy(tiny(layout, vocab_size=vocabulary, **settings))
    place, other = Coordinate(2, 3, 5), Coordinate(3, 1, 7)
    variants = [(zero(place),), (zero(other),)]
    route = shortcuts_of(live, WINDOWS.ids[:1], variants)
    measure = prediction_measure(torch.arange(20))
    steps = {
        "windows": lambda: score_windows(live, WINDOWS, measure=measure, batch_size=8),
        "restarted": lambda: score_edits(live, WINDOWS, variants, route, batch_size=16),
        "plain": lambda: score_edits(live, WINDOWS, variants, Shortcuts(), batch_size=16),
        "measures": lambda: measure_interventions(live, WINDOWS, [place], measure, FEW_DRAWS, factor=0.0),
        "cascade": lambda: cascade(live, WINDOWS, [place, other], factor=0.0, k=2),
        "hooks": lambda: (record(live, random_prompts()), mean_inputs(live, WINDOWS, [place])),
    }
    with Largest(live.model) as largest:
        steps[work]()
    if work == "hooks":
        assert largest.size < vocabulary
    else:
        # A cascade holds the readings of two models.
        assert largest.size == positions * vocabulary // (2 if work == "cascade" else 1)


def test_a_family_that_makes_all_logits_is_found_and_said(capsys):
    """Code that calls its head's weight rather than its head, as some that ships with checkpoints does."""
    model = tiny("llama", sharp=True)
    expected = score_windows(anatomy(model), WINDOWS, batch_size=8)
    head = model.lm_head

    class Untouched(torch.nn.Module):
        def forward(self, hidden):
            return torch.nn.functional.linear(hidden, head.weight)

    model.lm_head, model.get_output_embeddings = Untouched(), lambda: head
    capsys.readouterr()
    live = anatomy(model, "llama")
    assert not live.head.chunked
    assert "LlamaForCausalLM makes the logits of all positions at once" in capsys.readouterr().out
    assert np.allclose(score_windows(live, WINDOWS, batch_size=8).nll, expected.nll, rtol=1e-6)
    variants = [(zero(Coordinate(2, 3, 5)),), (scale(Coordinate(1, 3, 5), 9.0),)]
    route = shortcuts_of(live, WINDOWS.ids[:1], variants)
    assert route.carried
    for quick, plain in zip(
        score_edits(live, WINDOWS, variants, route, batch_size=16),
        score_edits(live, WINDOWS, variants, Shortcuts(), batch_size=16),
        strict=True,
    ):
        assert np.allclose(quick.nll, plain.nll, rtol=1e-5)


def test_a_window_without_scored_tokens_is_a_row_of_zeros():
    """Of a model that makes all logits, too."""
    live = anatomy(tiny("llama", sharp=True))
    scored = WINDOWS.scored.clone()
    scored[1] = False
    windows = Windows(WINDOWS.ids[:3], scored[:3])
    variants = [(zero(Coordinate(2, 3, 5)),), (scale(Coordinate(1, 3, 5), 9.0),)]
    for each in (live, replace(live, head=replace(live.head, chunked=False))):
        route = shortcuts_of(each, windows.ids[:1], variants)
        tables = score_edits(each, windows, variants, route, batch_size=16)
        for table in (*tables, score_windows(each, windows, batch_size=2)):
            assert table.tokens[1] == table.nll[1] == 0 and (table.nll[[0, 2]] > 0).all()


def test_a_softcap_that_leaves_small_logits_alone_is_not_missed():
    live = anatomy(tiny("gemma2", final_logit_softcapping=1e3, query_pre_attn_scalar=16).bfloat16())
    assert live.head.chunked and not live.head.bare


def test_what_goes_together_follows_from_sizes_alone(monkeypatch):
    """Neither the number of cores nor free memory is asked."""
    live = anatomy(tiny("llama"))
    sizes = []

    def asked(*given, **settings):
        raise AssertionError("asked the machine")

    for name in ("get_num_threads", "cuda.mem_get_info"):
        monkeypatch.setattr(f"torch.{name}", asked)
    monkeypatch.setattr("os.cpu_count", asked)
    live.layers[0].register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    score_windows(live, WINDOWS, batch_size=4)
    each = live.activation_bytes(LENGTH)
    monkeypatch.setattr("weight_atlas.live.memory.ACTIVATIONS", 2 * each)
    score_windows(live, WINDOWS.first(3), batch_size=4)
    assert sizes == [4, 2, 2, 1]
    assert each == LENGTH * 4 * (8 * 64 + 3 * 96)
