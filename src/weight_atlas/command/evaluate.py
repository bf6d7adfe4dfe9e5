"""`weight-atlas evaluate`: tasks of lm-evaluation-harness, scored through the workflow."""

import json
from typing import Annotated

from cyclopts import Parameter

from weight_atlas.command.corpora import tasks_named
from weight_atlas.command.options import DEFAULTS, Models, Options
from weight_atlas.command.project import Project
from weight_atlas.command.results import Extract, Row
from weight_atlas.command.scan import show
from weight_atlas.errors import AtlasError


def evaluate(
    models: Models,
    *,
    tasks: Annotated[
        list[str],
        Parameter(consume_multiple=True, help="Names of the harness (hellaswag, arc_easy, ...), or bundled:order."),
    ],
    limit: Annotated[int | None, Parameter(help="Documents of each task, at most.")] = None,
    options: Options = DEFAULTS,
) -> None:
    """Evaluate models on tasks of lm-evaluation-harness, item by item, with the harness's own metrics.

    Needs the extra: pip install "weight-atlas[eval]".

    ```
    weight-atlas evaluate bundled:demo --tasks bundled:order bundled:phrase
    weight-atlas evaluate openai-community/gpt2 --tasks hellaswag arc_easy --limit 200
    ```
    """
    if not tasks:
        raise AtlasError("no task", remedy="name some: --tasks hellaswag arc_easy")
    named: list[str] = []

    def prepare(project: Project) -> None:
        named.extend(tasks_named(project, tasks, limit))

    def beside(project: Project, names: list[str]) -> list[str]:
        return [f"ablation_eval/{name}/baseline/{task}.json" for name in names for task in named]

    def more(project: Project, name: str) -> list[Extract]:
        return _scores(project, name, named)

    show(models, [], options, prepare=prepare, beside=beside, more=more, judged=False)


def _scores(project: Project, name: str, tasks: list[str]) -> list[Extract]:
    """The scores of the unchanged model, beside what guessing gives; a group of tasks has one of its own."""
    rows: list[Row] = []
    for task in tasks:
        path = project.results / "ablation_eval" / name / "baseline" / f"{task}.json"
        if not path.exists():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        record = content["variants"][0] if content.get("variants") else {}
        for part, scores in {**record.get("results", {}), **record.get("groups", {})}.items():
            for metric, value in scores.items():
                chance = content["chance"].get(part) if metric.startswith("acc") else None
                documents = record.get("documents", {}).get(part)
                rows.append(
                    {"task": part, "metric": metric, "value": value, "guessing": chance, "documents": documents}
                )
        rows += [{"task": part["task"], "metric": part["reason"]} for part in content["skipped"]]
    columns = ["task", "metric", "value", "guessing", "documents"]
    shown = [column for column in columns if any(row.get(column) is not None for row in rows)]
    return [Extract("Scores", f"ablation_eval/{name}/baseline", shown, rows)] if rows else []
