"""Settings of the tasks that the cost of ablations is measured on."""

from typing import Annotated

from pydantic import Field

from weight_atlas.settings.base import Count, FirstCorpus, Natural, Settings, Text, by_effort


class TaskFolders(Settings):
    """Where the definitions and data of tasks lie."""

    folder: Text | None = Field(None, description="Folder of task definitions (YAML) to look for the name in.")
    mirror: Text | None = Field(
        None, description="Folder with copies of data sets of the hub under their names (mirror/organisation/name)."
    )
    trust_code: bool = Field(
        False,
        description="Run Python functions that definitions in `folder` name (`!function`), and metrics of the hub.",
    )


class Task(TaskFolders):
    """An entry of `tasks`."""

    name: str | None = Field(
        None,
        description="Name of the task or group in lm-evaluation-harness, or bundled:order, bundled:documents, "
        "bundled:phrase; null: the key itself.",
    )
    limit: Count | Annotated[float, Field(gt=0, lt=1)] | None = by_effort(
        None,
        quick=100,
        thorough=None,
        description="Documents to take of each task, or a share of them if below 1; null: all. Of a group it counts "
        "for every one of its tasks: mmlu has 57, so that a limit of 100 takes up to 5,700 documents.",
    )
    fewshot: Natural | None = Field(None, description="Worked examples before each question; null: as the task says.")
    seed: Natural = Field(1234, description="Seed of the choice of worked examples.")
    truncate: bool = Field(
        False,
        description="Cut requests longer than the model's context from the left, instead of leaving the task out.",
    )


class BundledItems(Settings):
    """Items of a bundled task."""

    items: Count = by_effort(60, quick=20, thorough=200, description="Items of each task, at most.")
    seed: Natural = Field(0, description="Seed of the choice of items.")


class BundledTasks(FirstCorpus, BundledItems):
    """Items of the bundled tasks that `tasks` names, made from a corpus; what cannot be made is left out."""
