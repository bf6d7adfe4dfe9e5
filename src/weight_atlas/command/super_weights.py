"""`weight-atlas super-weights`: find the single weights that a model depends on, and what removing them costs."""

from typing import Annotated

from cyclopts import Group, Parameter

from weight_atlas.command.corpora import tasks_named
from weight_atlas.command.detection import ANY, MIXTURES, Detection
from weight_atlas.command.options import DEFAULTS, Models, Options
from weight_atlas.command.project import Project
from weight_atlas.command.results import Extract, extract
from weight_atlas.command.scan import TOP, TopIssues, show

FOUND = ("super_weight_screening", "super_weights", "super_weight_verification")
# Windows of this many tokens where the configuration says nothing else.
_WINDOW = 256
LOSS = Group("What removal costs", sort_key=5)

Causal = Annotated[bool, Parameter(negative=(), group=MIXTURES, help="Zero experts' weights with forced routing too.")]


def super_weights(
    models: Models,
    *,
    perplexity_samples: Annotated[
        int | None, Parameter(group=LOSS, help="Windows of text to measure perplexity on.")
    ] = None,
    skip_perplexity: Annotated[bool, Parameter(negative=(), group=LOSS, help="Leave perplexity out.")] = False,
    accuracy_tasks: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            group=LOSS,
            help="Tasks of lm-evaluation-harness, or bundled:order, to evaluate with and without the weights.",
        ),
    ] = None,
    accuracy_samples: Annotated[int | None, Parameter(group=LOSS, help="Documents of each task, at most.")] = None,
    detection: Detection = ANY,
    enable_causal_scoring: Causal = False,
    top_issues: TopIssues = TOP,
    options: Options = DEFAULTS,
) -> None:
    """Find super weights, prove them against random weights of their size, and measure what their removal costs.

    Numbers that are given here are written to weight-atlas.yaml, which holds them for the next time.

    ```
    weight-atlas super-weights bundled:demo
    weight-atlas super-weights allenai/OLMo-1B-0724-hf mistralai/Mistral-7B-v0.1 --spike-threshold 50 \\
        --perplexity-samples 500 --accuracy-samples 100 --accuracy-tasks hellaswag arc_easy
    ```
    """
    keys = {
        **detection.keys,
        "super_weight_verification.enable_causal_scoring": enable_causal_scoring or None,
        "expert_routing.enable_causal_scoring": enable_causal_scoring or None,
    }
    tasks: list[str] = []

    def prepare(project: Project) -> None:
        project.set_keys(keys)
        if perplexity_samples is not None:
            window = (project.document.get("variant_perplexity") or {}).get("window") or _WINDOW
            project.set_key("variant_perplexity.window", window)
            project.set_key("variant_perplexity.tokens", perplexity_samples * window)
        tasks.extend(tasks_named(project, accuracy_tasks or [], accuracy_samples))

    def beside(project: Project, names: list[str]) -> list[str]:
        return [f"ablation_impact/{name}" for name in names] if tasks else []

    analyses = [*FOUND, *(["ablation_perplexity"] if not skip_perplexity else [])]
    if enable_causal_scoring or any(each is not None for each in detection.of_experts.values()):
        analyses.insert(len(FOUND), "expert_routing")
    more = _on_tasks if accuracy_tasks else None
    show(models, analyses, options, most=top_issues, prepare=prepare, beside=beside, more=more)


def _on_tasks(project: Project, name: str) -> list[Extract]:
    columns = ["variant", "task", "subtask", "metric", "baseline", "value", "drop", "drop_low", "drop_high", "severity"]
    return extract(project, "What removal costs on tasks", f"ablation_impact/{name}/super_weights.csv", columns)
