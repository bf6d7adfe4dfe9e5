"""The steps that run a model, of all that a configuration asks for."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from weight_atlas.ablations.choices import SECTIONS, Choices
from weight_atlas.workflow.selection import Selection

# The steps that run the model which an analysis needs, its own among them; ablations come beside.
NEEDED = {
    "super_weights": ("super_weights",),
    "weight_attribution": ("weight_attribution",),
    "super_weight_verification": ("super_weights", "weight_attribution", "super_weight_verification"),
    "super_activations": ("super_weights", "super_activations"),
    "generation": ("super_weights", "weight_attribution", "super_weight_verification", "generation"),
    "massive_activations": ("super_weights", "massive_activations"),
    "expert_routing": ("expert_routing",),
    "scaling_sweep": ("super_weights",),
    "quantization_ablation": ("super_weights", "quantization_ablation"),
    "ablation_perplexity": ("super_weights",),
    "impact_summary": ("super_weights",),
    "quantization_recipe": ("input_second_moments",),
    "recipe_perplexity": ("input_second_moments", "recipe_perplexity"),
    "cascade": ("super_weights", "cascade"),
    "super_weight_cards": ("super_weights", "interventions", "cascade"),
}

# All of them.
STEPS = {step for steps in NEEDED.values() for step in steps} | {"variant_perplexity", "ablation_eval"}


class Planned(NamedTuple):
    """A step on a model. of: the ablation, corpus, task or recipe that it is about, where there are several."""

    step: str
    model: str
    of: tuple[str, ...]
    settings: dict[str, Any]


def planned(config: dict[str, Any], model: str, selection: Selection, choices: Choices) -> Iterator[Planned]:
    """The steps of a checked configuration that run a model, in the order in which they are needed."""
    analyses = selection.analyses_of(model)
    steps = dict.fromkeys(step for name in analyses for step in NEEDED.get(name, ()))
    for step in steps:
        for recipe in config["recipes"] if step == "recipe_perplexity" else [None]:
            settings = _settings(config, step, model, selection, choices)
            yield Planned(step, model, (recipe,) if recipe else (), settings)
    ablations = _ablations(config, analyses, choices)
    for ablation in ablations:
        settings = choices.variant_options("variant_perplexity", model, ablation)
        for corpus in choices.corpora:
            yield Planned("variant_perplexity", model, (ablation, corpus), settings)
    compared = {"impact_summary", *SECTIONS} & set(analyses)
    for ablation, task in choices.evaluations(model, analyses) if compared else ():
        items = config["bundled_tasks"]["items"] if choices.task_files(task, {"data": ""}) else None
        settings = choices.variant_options("ablation_eval", model, ablation) | {"items": items}
        yield Planned("ablation_eval", model, (ablation, task), settings)


def _settings(config: dict[str, Any], step: str, model: str, selection: Selection, choices: Choices) -> dict[str, Any]:
    settings = selection.section(step, model)
    if step == "quantization_ablation":
        return choices.variant_options("variant_perplexity", model, step)
    if step in ("interventions", "cascade"):
        targets, windows = (selection.section(name, model) for name in ("intervention_targets", "windows"))
        given = config["intervention_targets"]["coordinates"].get(model, ())
        sizes = {"window_len": windows["window_len"], "stride": windows["stride"], "windows_tokens": windows["tokens"]}
        return {**settings, **sizes, "most": targets["most"], "given": len(given)}
    return settings


def _ablations(config: dict[str, Any], analyses: list[str], choices: Choices) -> list[str]:
    """The ablations whose perplexity is measured, the unchanged model first."""
    wanted = set(SECTIONS) & set(analyses)
    if "ablation_perplexity" in analyses:
        wanted |= set(config["ablations"])
    if "impact_summary" in analyses:
        wanted |= set(choices.ablations)
    return [name for name in choices.ablations if name in wanted or (wanted and name == "baseline")]
