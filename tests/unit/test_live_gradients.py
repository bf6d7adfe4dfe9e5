"""Gradients handed on one by one are those of one plain backward pass."""

import pytest
import torch
from live_models import LISTED, VOCABULARY, layouts, tiny

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.gradients import visit_gradients
from weight_atlas.live.windows import Windows

RERUN, KEPT = 0, 1 << 40


def windows(seed: int = 1) -> Windows:
    ids = torch.randint(5, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(seed))
    scored = torch.ones(3, 20, dtype=torch.bool)
    scored[:, 0], scored[1, :7] = False, False
    return Windows(ids, scored)


def plain(model, given: Windows) -> tuple[float, dict]:
    """The loss of one pass with all logits, and the gradient of every parameter."""
    window, position = given.scored.nonzero(as_tuple=True)
    model.requires_grad_(True)
    logits = model(input_ids=given.ids, use_cache=False).logits.double()
    loss = torch.nn.functional.cross_entropy(logits[window, position - 1], given.ids[window, position])
    loss.backward()
    gradients = {id(each): each.grad for each in model.parameters() if each.grad is not None}
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    return loss.item(), gradients


@pytest.mark.parametrize("memory", [RERUN, KEPT])
@pytest.mark.parametrize("layout", layouts(LISTED))
def test_every_parameter_is_visited_once_with_its_gradient(layout, memory):
    model = tiny(layout)
    live, seen = anatomy(model), []
    passed = visit_gradients(
        live, windows(), lambda each, gradient: seen.append((id(each), gradient.clone())), memory=memory
    )
    loss, gradients = plain(model, windows())
    assert passed.nll == pytest.approx(loss, abs=1e-6) and passed.rerun == (memory == RERUN)
    assert passed.tokens == 51
    assert sorted(each for each, _ in seen) == sorted(gradients)
    for each, gradient in seen:
        torch.testing.assert_close(gradient, gradients[each], rtol=1e-5, atol=1e-7)


def test_the_head_is_applied_in_chunks_to_the_same_sum(monkeypatch):
    model = tiny("gemma2", tie_word_embeddings=True)
    live, seen = anatomy(model), {}
    monkeypatch.setattr("weight_atlas.live.head.LOGITS", 7 * VOCABULARY)
    visit_gradients(live, windows(), lambda each, gradient: seen.update({id(each): gradient.clone()}), memory=KEPT)
    embedding = id(model.get_input_embeddings().weight)
    torch.testing.assert_close(seen[embedding], plain(model, windows())[1][embedding], rtol=1e-5, atol=1e-7)


def test_the_model_is_as_it_was_and_holds_no_gradient():
    model = tiny("llama")
    before = {name: each.clone() for name, each in model.state_dict().items()}
    visit_gradients(anatomy(model), windows(), lambda each, gradient: None, memory=RERUN)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None and not each.requires_grad for each in model.parameters())
    assert "forward" not in model.model.layers[0].__dict__


def test_one_gradient_exists_at_a_time():
    model, alive = tiny("llama"), []
    own = list(model.parameters())
    visit_gradients(
        anatomy(model),
        windows(),
        lambda each, gradient: alive.append(sum(other.grad is not None for other in own)),
        memory=RERUN,
    )
    assert max(alive) == 0


def test_a_loss_that_is_no_number_is_said():
    model = tiny("llama")
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(AtlasError, match="not a finite number"):
        visit_gradients(anatomy(model), windows(), lambda each, gradient: None, memory=KEPT)
    assert not any(each.requires_grad for each in model.parameters())


def test_a_model_without_derivatives_does_not_apply_but_a_fault_of_the_visitor_is_one():
    model = tiny("llama")

    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(context, values):
            return values.clone()

    handle = model.model.layers[1].mlp.register_forward_hook(lambda module, inputs, output: Opaque.apply(output))
    with pytest.raises(NotApplicable, match="cannot be differentiated"):
        visit_gradients(anatomy(model), windows(), lambda each, gradient: None, memory=KEPT)
    handle.remove()

    def broken(each, gradient):
        raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        visit_gradients(anatomy(model), windows(), broken, memory=KEPT)
