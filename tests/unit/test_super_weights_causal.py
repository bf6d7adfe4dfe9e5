"""Removals seen from within: what is left of the activations, and experts that every token is sent to."""

import pytest
import torch
from live_models import LISTED, own_text, plant, random_prompts, tiny
from test_super_weights_experts import WINDOWS
from test_super_weights_verification import DEFAULTS

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.edits import edited, zero
from weight_atlas.live.experts import forced_routing
from weight_atlas.settings.super_weights import ExpertRouting
from weight_atlas.super_weights.causal import interventional_impacts, residual_after, with_causal_scores
from weight_atlas.super_weights.expert_table import expert_table
from weight_atlas.super_weights.verification import verify
from weight_atlas.super_weights.verification_plan import plan


def test_residual_after_removal():
    live = anatomy(tiny("gpt2"))
    places = [plant(live, 1, 9, 21), plant(live, 2, 33, 5, write=500)]
    peaks = residual_after(live, random_prompts(), places)
    assert peaks[0]["residual_before"] == pytest.approx(300, rel=0.01)
    assert peaks[1]["residual_before"] == pytest.approx(500, rel=0.01)
    assert all(peak["residual_after"] < 5 and peak["residual_after_all"] < 5 for peak in peaks)


@pytest.mark.parametrize("layout", ["mixtral", "gpt_oss", "llama4_text", "dbrx", "deepseek_v3"])
def test_forced_routing_sends_every_token_to_the_expert(layout):
    from weight_atlas.live.experts import routing_of

    live = anatomy(tiny(layout))
    projection, seen = next(p for p in live.projections if p.stacked), []
    ids = random_prompts().ids

    def look(module, inputs, keywords):
        seen.append(routing_of(projection, inputs, keywords))

    def run():
        handle = projection.container.register_forward_pre_hook(look, with_kwargs=True)
        live.model(ids)
        handle.remove()
        return seen[-1]

    natural = run()
    for expert in range(4):
        with forced_routing(projection, expert):
            forced = run()
        assert (forced.index == expert).any(1).all()
        chosen = (natural.index == expert).any(1)
        if not natural.scaled:
            assert torch.equal(forced.index[chosen], natural.index[chosen])
            assert torch.equal(forced.weight, natural.weight)
        assert len(set(forced.index[0].tolist())) == forced.index.shape[1]
    assert torch.equal(run().index, natural.index)
    with pytest.raises(AtlasError, match="no router"), forced_routing(anatomy(tiny("llama")).projections[0], 0):
        pass


def test_forced_impact_sees_an_expert_that_the_router_never_chooses():
    live = anatomy(tiny("mixtral", sharp=True))
    place = plant(live, 1, 9, 21)
    windows = own_text(live, windows=4, length=12)
    silent = next(expert for expert in range(4) if expert != place.expert)
    router = live.layers[1].mlp.gate
    handle = router.register_forward_hook(
        lambda module, inputs, output: (
            output[0],
            output[1],
            torch.where(output[2] == silent, (silent + 1) % 4, output[2]),
        )
    )
    down = live.projection(place).matrix(silent)
    down[:, 21] = 0
    down[9, 21] = 50.0
    unseen = Coordinate(1, 9, 21, silent, component=place.component)
    judged = verify(live, windows, plan(live, [unseen], draws=0, seed=0), DEFAULTS)
    assert judged.table.delta_nll[0] == 0
    assert judged.table.verdict[0] == "inert"
    assert abs(interventional_impacts(live, windows, [unseen], batch_size=4)[0]) > 0
    handle.remove()


def test_causal_scores_against_plain_sums():
    """The loss by hand, without and with the weight, as routed and with every token's last choice the expert."""
    live = anatomy(tiny("mixtral", sharp=True))
    place = plant(live, 1, 9, 21)
    table = expert_table(live, WINDOWS, ExpertRouting())
    scored = with_causal_scores(live, WINDOWS, table, batch_size=4, most=2)
    assert scored.impact_natural.notna().sum() == scored.impact_interventional.notna().sum() == 2
    (row,) = scored[scored.candidate].itertuples()

    def loss():
        with torch.no_grad():
            logits = live.model(WINDOWS.ids).logits[:, :-1].double().log_softmax(-1)
        return -float(logits.gather(2, WINDOWS.ids[:, 1:, None]).mean())

    def change():
        before = loss()
        with edited(live, [zero(place)]):
            return loss() - before

    def force(module, inputs, output):
        logits, weight, index = output
        missing = ~(index == place.expert).any(1)
        index = index.clone()
        index[missing, -1] = place.expert
        return logits, weight, index

    assert abs(row.impact_natural) > 0.1
    assert row.impact_natural == pytest.approx(change(), rel=1e-4)
    handle = live.layers[1].mlp.gate.register_forward_hook(force)
    assert row.impact_interventional == pytest.approx(change(), rel=1e-4)
    handle.remove()


def test_listed_experts_have_no_router_to_force():
    live = anatomy(tiny(LISTED, sharp=True))
    plant(live, 1, 9, 21)
    scored = with_causal_scores(live, WINDOWS, expert_table(live, WINDOWS, ExpertRouting()), batch_size=4, most=1)
    assert scored.impact_natural.notna().sum() == 1
    assert scored.impact_interventional.isna().all()
