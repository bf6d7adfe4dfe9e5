"""What the rules of downstream evaluation look up: ablations, tasks and corpora of the configuration.

Required: config, checked.
"""

from weight_atlas.ablations.given_weights import check_weights
from weight_atlas.ablations.names import BUNDLED_TASKS, bundled_task, known_names
from weight_atlas.ablations.task_files import task_state

QUANTIZATION = ("formats", "granularities", "symmetric", "clip", "matrices")
# The baseline and what scaling_sweep and quantization_ablation need are ablations like those of the configuration.
ABLATIONS = {
    "baseline": {},
    **{
        name: {key: value for key, value in settings.items() if key != "tasks"}
        for name, settings in config["ablations"].items()
    },
    "scaling_sweep": {
        "weights": config["scaling_sweep"]["weights"],
        "scale": {"factors": config["scaling_sweep"]["factors"]},
    },
    "quantization_ablation": {
        "weights": config["quantization_ablation"]["weights"],
        "quantize": {key: config["quantization_ablation"][key] for key in QUANTIZATION},
    },
}

try:
    for name, settings in ABLATIONS.items():
        check_weights(settings, f"configuration: {name}")
    TASKS_OF = {
        name: known_names(settings["tasks"], config["tasks"], f"configuration: {name}.tasks")
        for name, settings in {
            **config["ablations"],
            **{section: config[section] for section in ("scaling_sweep", "quantization_ablation")},
        }.items()
    }
    BUNDLED_NAMES = {name: bundled_task(task["name"]) for name, task in config["tasks"].items()}
    EVALUATION_CORPORA = known_names(
        config["variant_perplexity"]["corpora"] or list(config["corpora"])[:1],
        config["corpora"],
        "configuration: variant_perplexity.corpora",
    )
except AtlasError as error:
    raise WorkflowError(str(error)) from None
MAIN_CORPUS = next(iter(EVALUATION_CORPORA), "none")


wildcard_constraints:
    ablation="|".join(map(re.escape, ABLATIONS)),
    task="|".join(map(re.escape, config["tasks"])) or "none",
    bundled="|".join(BUNDLED_TASKS),


def tasks_of(ablation):
    """The tasks that an ablation is evaluated on: all, unless its section of the configuration names some."""
    return TASKS_OF.get(ablation, list(config["tasks"]))


# The unchanged model, on every task that some ablation is compared with it on.
TASKS_OF["baseline"] = [
    task for task in config["tasks"] if any(task in tasks_of(name) for name in ABLATIONS if name != "baseline")
]


def task_files(wildcards):
    """Local files that define a task, by the name of the input that they are."""
    bundled = BUNDLED_NAMES[wildcards.task]
    if bundled is None:
        return {}
    definition, data = ROOT / f"resources/demo/tasks/{bundled}.yaml", f"<results>/bundled_tasks/{bundled}.jsonl"
    return {"definition": definition, "data": data}


def about_weights(wildcards):
    """The detected super weights, or for weights by hand the tensors that they lie in."""
    settings = ABLATIONS[wildcards.ablation]
    if not settings:
        return {}
    if settings["weights"] is None:
        return {"super_weights": f"<results>/super_weights/{wildcards.model}.json"}
    return {"inventory": f"<results>/tensor_inventory/{wildcards.model}.parquet"}


def task_options(wildcards, *keys):
    task = config["tasks"][wildcards.task]
    name = BUNDLED_NAMES[wildcards.task] or task["name"] or wildcards.task
    return {"name": name, **{key: task[key] for key in keys}}


def files_of_task(wildcards):
    """For `params: code=`: what shows that a task's own definitions or data may have changed."""
    task = config["tasks"][wildcards.task]
    return task_state(task["folder"], task["mirror"])


def variant_options(section):
    return lambda wildcards: {
        **{key: value for key, value in config[section].items() if key != "corpora"},
        **{key: config["models"][wildcards.model][key] for key in ("dtype", "trust_remote_code")},
        "settings": json.dumps(ABLATIONS[wildcards.ablation]),
    }


def evaluations(suffix, ablation=None):
    """Outputs of ablation_eval that an impact table reads, one per task of its ablation."""
    return lambda wildcards: [
        f"<results>/ablation_eval/{wildcards.model}/{ablation or wildcards.ablation}/{task}.{suffix}"
        for task in tasks_of(wildcards.ablation)
    ]


def window_scores(suffix, ablation=None):
    return lambda wildcards: [
        f"<results>/variant_perplexity/{wildcards.model}/{ablation or wildcards.ablation}/{corpus}.{suffix}"
        for corpus in EVALUATION_CORPORA
    ]


def all_window_scores(suffix, ablations):
    """Outputs of variant_perplexity on all corpora, those of one corpus together."""
    scores = "<results>/variant_perplexity/{{model}}/{ablation}/{corpus}."
    return [
        path for corpus in EVALUATION_CORPORA for path in expand(scores + suffix, ablation=ablations, corpus=corpus)
    ]
