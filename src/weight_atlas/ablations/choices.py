"""The ablations of a configuration, with their tasks and corpora. Light: the workflow uses it for every job."""

import json
from collections.abc import Iterable
from typing import Any

from weight_atlas.ablations.task_files import task_state
from weight_atlas.errors import AtlasError, unknown_name
from weight_atlas.interventions.kinds import ABLATIONS, INTO_NEURONS, KINDS, NEURON, SOME

# Kinds of change that are made of other than the weights in question, whichever these are.
WITHOUT_WEIGHTS = ("token_rows", "super_experts")
# Products whose variants are ablations of their own, beside those that the configuration lists.
SECTIONS = ("scaling_sweep", "quantization_ablation")
QUANTIZATION = (
    "formats", "granularities", "symmetric", "clip", "matrices", "activations", "activations_beside",
)  # fmt: skip


class Choices:
    """The ablations of a checked configuration, by name, each with its tasks and the files that it needs.

    ablations: their names; `baseline`, the unchanged model, is the first. Their settings may differ between models.
    corpora: those on which perplexity is measured; main_corpus is the first. An AtlasError for a name that is not
    known or a weight without its coordinates.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self.ablations = ["baseline", *config["ablations"], *SECTIONS]
        # What is wrong with the sections of all models is said of these.
        for place, entry in (("", {}), *((f"models.{model}.", own) for model, own in config["models"].items())):
            _check({**config, **entry}, f"configuration: {place}")
        own = {model: {**config, **entry} for model, entry in config["models"].items()}
        self._settings = {model: _ablations(sections) for model, sections in own.items()}
        self._tasks = {model: _tasks(sections) for model, sections in own.items()}
        self._bundled = {name: bundled_task(task["name"]) for name, task in config["tasks"].items()}
        self.corpora = known_names(
            config["variant_perplexity"]["corpora"] or list(config["corpora"])[:1],
            config["corpora"],
            "configuration: variant_perplexity.corpora",
        )
        self.main_corpus = next(iter(self.corpora), "none")

    def settings(self, model: str, ablation: str) -> dict[str, Any]:
        """The settings of an ablation of a model; none for the unchanged model."""
        return self._settings[model][ablation]

    def tasks_of(self, model: str, ablation: str) -> list[str]:
        """The tasks that an ablation is evaluated on: all, unless its section of the configuration names some."""
        return self._tasks[model][ablation]

    def compared(self, analyses: Iterable[str]) -> list[str]:
        """The ablations whose cost a model's analyses ask for, the unchanged model first.

        Where none of them asks, those that the configuration lists: their files can be asked for by name.
        """
        if "impact_summary" in analyses:
            return self.ablations
        return ["baseline", *([name for name in SECTIONS if name in analyses] or self._config["ablations"])]

    def evaluations(self, model: str, analyses: Iterable[str]) -> list[tuple[str, str]]:
        """Those ablations, each with each of its tasks; the unchanged model is on all of these."""
        _, *changed = self.compared(analyses)
        pairs = [(name, task) for name in changed for task in self.tasks_of(model, name)]
        asked = {task for _, task in pairs}
        return [*(("baseline", task) for task in self.tasks_of(model, "baseline") if task in asked), *pairs]

    def task_files(self, task: str, patterns: dict[str, str]) -> dict[str, str]:
        """The files that define a bundled task, by input; none for another. patterns: paths with {bundled} in them."""
        bundled = self._bundled[task]
        return {} if bundled is None else {name: path.format(bundled=bundled) for name, path in patterns.items()}

    def task_state(self, task: str) -> str | None:
        """A state that changes with a task's own definitions or data."""
        return task_state(self._config["tasks"][task]["folder"], self._config["tasks"][task]["mirror"])

    def task_options(self, model: str, task: str, *keys: str) -> dict[str, Any]:
        """The name by which the harness knows a task, and some of the task's settings, as they hold for a model."""
        settings = {**self._config, **self._config["models"][model]}["tasks"][task]
        return {"name": self._bundled[task] or settings["name"] or task, **{key: settings[key] for key in keys}}

    def weight_files(self, model: str, ablation: str, patterns: dict[str, str]) -> dict[str, str]:
        """The file that gives the weights of an ablation, by name of the input: none for the unchanged model.

        patterns: the paths of `super_weights`, those detected, of the `inventory`, in which given weights lie, of
        `token_weights`, with {vector} in it, and of `expert_routing`, which names super experts.
        """
        settings = self._settings[model][ablation]
        if not settings:
            return {}
        rows = settings.get("token_rows")
        files = {"token_weights": patterns["token_weights"].replace("{vector}", rows["vector"])} if rows else {}
        if settings.get("super_experts") is not None:
            files["expert_routing"] = patterns["expert_routing"]
        if all(settings.get(kind) is None for kind in ABLATIONS if kind not in WITHOUT_WEIGHTS):
            return files
        name = "super_weights" if settings["weights"] is None else "inventory"
        return {name: patterns[name], **files}

    def variant_options(self, section: str, model: str, ablation: str) -> dict[str, Any]:
        """The options of a step that runs a model under all variants of an ablation.

        The ablation's settings are one text, so that a changed name among them is a change that Snakemake sees. Corpora
        are not among the options: which others there are does not change a job.
        """
        own = self._config["models"][model]
        return {
            **{key: value for key, value in {**self._config, **own}[section].items() if key != "corpora"},
            **{key: own[key] for key in ("dtype", "trust_remote_code")},
            "changes": json.dumps(self._settings[model][ablation]),
        }


def known_names(chosen: Iterable[str] | None, known: Iterable[str], where: str) -> list[str]:
    """The chosen names, all of the known ones for None; an AtlasError for one that is not known."""
    known = list(known)
    names = known if chosen is None else list(chosen)
    for name in names:
        if name not in known:
            raise unknown_name("name", name, known, where)
    return names


def _ablations(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of every ablation; tasks are left out, since a job's results do not depend on its other tasks."""
    sweep, quantization = config["scaling_sweep"], config["quantization_ablation"]
    return {
        "baseline": {},
        **{
            name: {key: value for key, value in settings.items() if key != "tasks"}
            for name, settings in config["ablations"].items()
        },
        "scaling_sweep": {"weights": sweep["weights"], "scale": {"factors": sweep["factors"]}},
        "quantization_ablation": {
            "weights": quantization["weights"],
            "quantize": {key: quantization[key] for key in QUANTIZATION},
        },
    }


def _compared(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections of the ablations whose tasks are theirs to name."""
    return {**config["ablations"], **{name: config[name] for name in SECTIONS}}


def _tasks(config: dict[str, Any]) -> dict[str, list[str]]:
    """The tasks of every ablation."""
    known = config["tasks"]
    tasks = {name: list(known if each["tasks"] is None else each["tasks"]) for name, each in _compared(config).items()}
    # The unchanged model is evaluated on every task that some ablation is compared with it on.
    compared = {task for names in tasks.values() for task in names}
    return {"baseline": [task for task in known if task in compared], **tasks}


def _check(config: dict[str, Any], where: str) -> None:
    """Raise AtlasError for a name that is not known, or a weight without its coordinates."""
    for name, settings in _ablations(config).items():
        check_weights(settings, f"{where}{name}")
        if rows := settings.get("token_rows"):
            known_names([rows["vector"]], config["token_weights"], f"{where}{name}.token_rows.vector")
    for name, section in _compared(config).items():
        known_names(section["tasks"], config["tasks"], f"{where}{name}.tasks")


def check_weights(settings: dict[str, Any], where: str) -> None:
    """Raise AtlasError where a kind of change needs an index of a weight that is not given."""
    for kind in ABLATIONS:
        for weight in settings.get("weights") or [] if settings.get(kind) is not None else []:
            if missing := _missing(kind, weight):
                layer = weight.get("layer")
                place = "outside of the layers" if layer is None else f"in layer {layer}"
                raise AtlasError(
                    f"{kind} needs {missing} of every weight, and one {place} is given without",
                    where=where,
                    remedy="give it, or put what has no such index into an ablation of its own",
                )


def _missing(kind: str, weight: dict[str, Any]) -> str:
    """What a kind of change needs of a weight and is not given, in words; "" where nothing is missing."""
    needs = KINDS[kind].needs
    if needs == SOME:
        given = any(weight.get(key) is not None for key in ("row", "col", "head", "role"))
        return "" if given else "a row, a col or a head, or the role of a whole matrix"
    if needs == NEURON:
        needs = ("row",) if weight.get("role") in INTO_NEURONS else ("col",)
    missing = [f"the {key}" for key in needs if weight.get(key) is None]
    return " and ".join(missing)


BUNDLED = "bundled:"
BUNDLED_TASKS = ("order", "documents", "phrase")


def bundled_task(name: str | None) -> str | None:
    """The bundled task that a task's `name` means, None for any other; an AtlasError for one that does not exist."""
    if name is None or not name.startswith(BUNDLED):
        return None
    task = name.removeprefix(BUNDLED)
    if task not in BUNDLED_TASKS:
        raise unknown_name("name", task, BUNDLED_TASKS, "the bundled tasks")
    return task
