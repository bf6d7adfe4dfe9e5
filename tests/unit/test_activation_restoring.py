"""Weights removed whose massive activations stay: at which tokens, and in which prompt."""

import pytest
import torch
from live_models import plant, tiny
from test_ablations_variants import PROMPT, TARGETS

from weight_atlas.ablations.prepare import sink_prompt
from weight_atlas.interventions import activation_restoring
from weight_atlas.interventions.activation_restoring import Sink, super_activations_restored
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.edits import edited, zero


@pytest.fixture(scope="module")
def live():
    return anatomy(tiny("llama"))


def test_restored_activations_stay_at_the_sink_and_go_elsewhere():
    model = tiny("llama")
    live = anatomy(model)
    place = plant(live, 1, 5, 9)
    outputs = {}

    def keep(name):
        hook = live.projection(place).container.register_forward_hook(
            lambda module, inputs, output: outputs.update({name: (inputs[0].clone(), output.clone())})
        )
        with torch.no_grad():
            model(input_ids=torch.tensor([PROMPT]))
        hook.remove()

    keep("plain")
    with super_activations_restored(live, [Sink(place)], torch.tensor([PROMPT])):
        keep("restored")
    with edited(live, [zero(place)]):
        keep("zeroed")
    x, plain = outputs["plain"]
    contribution = live.projection(place).matrix()[place.row, place.col] * x[0, :, place.col]
    sinks = contribution.abs() > contribution.abs().max() / 2
    assert 0 < sinks.sum() < len(sinks)
    restored, zeroed = outputs["restored"][1][0, :, place.row], outputs["zeroed"][1][0, :, place.row]
    assert torch.allclose(restored[sinks], plain[0, sinks, place.row], atol=1e-4)
    assert torch.equal(restored[~sinks], zeroed[~sinks])


def test_only_tokens_beyond_half_of_the_largest_are_sinks():
    x = torch.tensor([0.0, 4.9, -5.1, 10.0, -10.0, 2.6])
    bound = activation_restoring._bound(Sink(TARGETS[0]), x.abs(), 6)
    assert activation_restoring._of_sinks(bound)(x).tolist() == [0, 0, x[2], 10, -10, 0]


def test_a_prompt_that_falls_short_of_the_detection_is_noticed(capsys):
    x = torch.tensor([1.0, 2.0, 1.5])
    assert activation_restoring._bound(Sink(TARGETS[0], -400.0), x, 3) == 200
    out = capsys.readouterr().out
    assert "0 of 3 tokens of the prompt are sinks, |x| over 200" in out and "is a BOS token missing?" in out
    assert activation_restoring._bound(Sink(TARGETS[0], -400.0), torch.tensor([1.0, 390.0, 2.0]), 3) == 195
    out = capsys.readouterr().out
    assert "1 of 3 tokens" in out and "warning" not in out
    activation_restoring._bound(Sink(TARGETS[0]), x, 3)
    assert "warning: no token of the prompt sets off layer 1" in capsys.readouterr().out
    assert activation_restoring._bound(Sink(TARGETS[0]), torch.empty(0), 3) == float("inf")
    assert activation_restoring._bound(Sink(TARGETS[0], 8.0), torch.empty(0), 3) == 4


class Letters:
    """A tokenizer of letters, which puts a BOS (1) before texts or not."""

    def __init__(self, bos):
        self.bos = bos

    def __call__(self, text, add_special_tokens=True):
        letters = [1] if text == "<s>" else [ord(letter) for letter in text]
        return {"input_ids": ([1] if self.bos and add_special_tokens else []) + letters}

    def decode(self, ids):
        return "".join("<s>" if each == 1 else chr(each) for each in ids)


def test_the_prompt_has_the_tokenizers_prefix_and_the_tokens_of_the_detection():
    first, other = {"token": "<s>", "token_index": 0}, {"token": "!", "token_index": 4}
    plain = sink_prompt(Letters(False))
    assert sink_prompt(Letters(True)) == [1, *plain]
    assert sink_prompt(Letters(True), [first]) == [1, *plain]
    assert sink_prompt(Letters(False), [first, other, first]) == [1, *plain, ord("!")]
    assert sink_prompt(Letters(False), [{"token": "A", "token_index": 0}, {"token": None}]) == plain
    assert sink_prompt(Letters(False), [{"token": "two", "token_index": 0}]) == plain
