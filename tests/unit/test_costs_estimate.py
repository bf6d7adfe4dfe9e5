"""What the steps that run models are said to cost, and how it is said."""

import json
from pathlib import Path

import pytest
import torch
from live_models import tiny

from weight_atlas.ablations.choices import Choices
from weight_atlas.ablations.variants import variants_of
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.costs import plan, steps
from weight_atlas.costs.announce import announce
from weight_atlas.costs.estimate import as_text, duration, estimates
from weight_atlas.costs.machine import Machine, probe
from weight_atlas.costs.sizes import Sizes, sizes_of
from weight_atlas.costs.steps import Found
from weight_atlas.costs.work import Passes, Work
from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.settings.analyses import ANALYSES
from weight_atlas.workflow.configuration import configured
from weight_atlas.workflow.selection import Selection

ROOT = Path(__file__).parents[2]
MACHINE = Machine(rate=1e11, cores=2)
DEMO = {"models": {"demo": {"source": "bundled:demo"}}}
SMALL = Sizes(
    layers=4, context=512, products=4e6, widths=6e3, queries=512, heads=16, d_model=128, vocabulary=1000,
    stored=5_000_000, matrices=4_000_000,
)  # fmt: skip


def told(config, due=None):
    return estimates(configured(config, "c"), lambda: MACHINE, due)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where there are no results


def test_every_step_that_runs_a_model_has_a_cost():
    runs = {path.stem for path in (ROOT / "scripts").glob("*.py") if "running: Live" in path.read_text()}
    assert plan.STEPS == set(steps.STEPS) == runs


def test_more_of_anything_costs_more():
    plain = MACHINE.seconds(SMALL, Work((Passes(1000, 100, 10, head=1000),)))
    for more in (
        Work((Passes(2000, 100, 10, head=1000),)),
        Work((Passes(1000, 200, 10, head=1000),)),
        Work((Passes(1000, 100, 50, head=1000),)),
        Work((Passes(1000, 100, 10, head=2000),)),
        Work((Passes(1000, 100, 10, head=1000, functions=5.0),)),
        Work((Passes(1000, 100, 10, head=1000, kept=1.0),)),
        Work((Passes(1000, 100, 10, head=1000, backward=True),)),
        Work((Passes(1000, 100, 10, head=1000),), rounded=1e6),
        Work((Passes(1000, 100, 10, head=1000),), swept=1e6),
        Work((Passes(1000, 100, 10, head=1000),), loads=2),
    ):
        assert MACHINE.seconds(SMALL, more) > plain
    assert Machine(5e10, 2).seconds(SMALL, Work()) == 2 * MACHINE.seconds(SMALL, Work())


@pytest.mark.parametrize("count", [0, 1, 2])
def test_variants_are_as_many_as_an_ablation_has(count):
    live = anatomy(tiny("llama"))
    found = [Coordinate(1, 3, number) for number in range(count)]
    ablations = {
        "many": {"zero": {}, "each": {}, "scale": {}, "neurons": {}, "random": {"draws": 4}, "restore": {}},
        "rounded": {"quantize": {"activations": ["int8/token", "fp8_e4m3/tensor"]}},
        "largest": {"largest": {"count": 1}},
    }
    choices = Choices(configured({**DEMO, "ablations": ablations}, "c"))
    for name in (*ablations, "scaling_sweep", "quantization_ablation"):
        settings = choices.settings("demo", name)
        made = variants_of(name, settings, live, found, [1.0] * count, [1, 2]).variants
        distinct = {one.change for one in made}  # equal changes are measured once
        assert sum(steps._variants(settings, Found(count), SMALL)) == len(distinct), (name, [one.name for one in made])


def test_plans_are_of_what_a_model_is_analysed_for():
    def of(**entry):
        config = configured({"models": {"m": {"source": "bundled:demo", **entry}}}, "c")
        return [
            (each.step, *each.of) for each in plan.planned(config, "m", Selection(config, ANALYSES), Choices(config))
        ]

    assert of(analyses=["effective_rank", "neuron_labels"]) == []
    assert of(analyses=["weight_attribution"]) == [("weight_attribution",)]
    verification = ["super_weights", "weight_attribution", "super_weight_verification"]
    assert [step for (step,) in of(analyses=["super_weight_verification"])] == verification
    perplexity = of(analyses=["ablation_perplexity"])
    assert ("variant_perplexity", "baseline", "python-docs") in perplexity
    assert ("variant_perplexity", "super_weights", "python-docs") in perplexity
    assert not [each for each in perplexity if "sweep" in each[1:2]]


def test_a_model_of_the_hub_that_is_not_here_is_unknown_and_the_others_are_not():
    here, hub = told({"models": {"demo": {"source": "bundled:demo"}, "far": {"source": "hf://some/model"}}})
    assert here.sizes and not hub.sizes
    text = as_text([here, hub], MACHINE)
    assert "far: unknown until it is fetched" in text and "demo (1 million parameters, effort standard)" in text


def test_a_damaged_model_has_its_reason(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (one,) = told({"models": {"m": {"source": str(tmp_path)}}})
    assert one.sizes is None and one.reason
    assert f"m: {one.reason}" in as_text([one], MACHINE)


def test_effort_orders_the_cost_of_every_step():
    quick, standard, thorough = (
        {cost.step: cost.seconds for cost in told({**DEMO, "effort": effort})[0].costs}
        for effort in ("quick", "standard", "thorough")
    )
    assert quick.keys() == standard.keys() == thorough.keys()
    for step in quick:
        for number in range(3):
            assert quick[step][number] <= standard[step][number] <= thorough[step][number], step


def test_what_is_known_of_super_weights_is_taken(tmp_path):
    (before,) = told(DEMO)
    assert not before.known and [each.count for each in before.found] == [0, 1, 2]
    (tmp_path / "results/super_weights").mkdir(parents=True)
    found = [{"layer": 2}, {"layer": 1}]
    (tmp_path / "results/super_weights/demo.json").write_text(json.dumps({"super_weights": found}))
    (after,) = told(DEMO)
    assert after.known and after.found == (Found(2, 1),)
    text = as_text([after], MACHINE)
    assert "2 super weights" in text and "each more" not in text
    assert "each more" in as_text([before], MACHINE)


def test_only_due_steps_are_counted():
    (one,) = told(DEMO, {("cascade", "demo"), ("variant_perplexity", "demo", "baseline", "python-docs")})
    assert [cost.step for cost in one.costs] == ["cascade", "variant_perplexity"]
    assert told(DEMO, {("effective_rank", "demo")}) == []


def test_what_cannot_be_foreseen_says_why():
    (one,) = told({**DEMO, "cascade": {"tokens": None}, "windows": {"tokens": None}, "tasks": {"arc_easy": {}}})
    reasons = {cost.step: cost.reason for cost in one.costs if cost.seconds is None}
    assert reasons["cascade"] == "all of the corpus is taken"
    assert reasons["ablation_eval"] == "the requests of a task are not built yet"
    text = as_text([one], MACHINE)
    assert "ablation_eval: the requests of a task are not built yet" in text
    assert "unknown" in text


def test_a_run_says_its_cost_before_it_begins_and_no_fault_stops_it(monkeypatch):
    said = []
    config = configured(DEMO, "c")
    announce(config, {("effective_rank", "demo")}, 2, said.append)
    assert said == []
    announce(config, {("weight_attribution", "demo"), ("effective_rank", "demo")}, 2, said.append)
    (text,) = said
    assert "weight_attribution" in text and "on 2 cores" in text and "cascade" not in text
    monkeypatch.setattr("weight_atlas.costs.sizes.sizes_of", lambda *given: 1 / 0)
    announce(config, {("weight_attribution", "demo")}, 2, said.append)
    assert said[1] == "The cost of this run could not be estimated: ZeroDivisionError: division by zero"


def test_cores_shorten_what_is_not_one_step_after_the_other():
    (one,) = told(DEMO)
    alone, many = (as_text([one], Machine(1e11, cores)).splitlines()[-1].split() for cores in (1, 64))
    assert alone[:3] == ["on", "1", "core"] and many[:3] == ["on", "64", "cores"]
    longest = max(one.longest()[:2])
    assert duration(longest) in " ".join(many)


def test_durations_are_in_words():
    assert [duration(each) for each in (5, 59, 61, 5000, 7200)] == ["5 s", "59 s", "1 min", "83 min", "2.0 h"]


def test_the_probe_gives_a_rate_that_a_processor_can_have():
    machine = probe(3, width=256)
    assert 1e8 < machine.rate < 1e13 and machine.cores == 3


def test_experts_that_a_token_does_not_pass_are_not_counted(tmp_path):
    tiny("mixtral").save_pretrained(tmp_path)
    sizes = sizes_of(Checkpoint.from_folder(tmp_path))
    assert sizes.products < 0.8 * sizes.matrices < sizes.stored
    assert sizes.layers == 4 and sizes.vocabulary == 300


def test_a_checkpoint_without_a_model_is_an_error(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(AtlasError, match="do not say what a forward pass costs"):
        sizes_of(Checkpoint.from_folder(tmp_path, allow_other=True))
