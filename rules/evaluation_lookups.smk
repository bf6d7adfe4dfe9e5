"""What the rules of downstream evaluation look up: ablations, tasks and corpora of the configuration.

Required: config, checked.
"""

from weight_atlas.evaluation.names import bundled_task, known_names

QUANTIZATION = ("formats", "granularities", "symmetric", "clip", "matrices")
# The baseline and what scaling_sweep and quantization_ablation need are ablations like those of the configuration.
ABLATIONS = {
    "baseline": {},
    **config["ablations"],
    "scaling_sweep": {"scale": {"factors": config["scaling_sweep"]["factors"]}},
    "quantization_ablation": {
        "weights": config["quantization_ablation"]["weights"],
        "quantize": {key: config["quantization_ablation"][key] for key in QUANTIZATION},
    },
}

try:
    TASKS_OF = {
        section: known_names(config[section]["tasks"], config["tasks"], f"configuration: {section}.tasks")
        for section in ("scaling_sweep", "quantization_ablation")
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


def tasks_of(ablation):
    """The tasks that an ablation is evaluated on: all, unless its section of the configuration names some."""
    return TASKS_OF.get(ablation, list(config["tasks"]))


def task_files(wildcards):
    """Local files that define a task, by the name of the input that they are."""
    bundled = BUNDLED_NAMES[wildcards.task]
    if bundled is None:
        return {}
    definition, data = ROOT / f"resources/demo/tasks/{bundled}.yaml", f"<results>/bundled_tasks/{bundled}.jsonl"
    return {"definition": definition, "data": data}


def found_weights(wildcards):
    """The detected super weights, where an ablation is about them."""
    settings = ABLATIONS[wildcards.ablation]
    about = settings and settings.get("weights") is None
    return {"super_weights": f"<results>/super_weights/{wildcards.model}.json"} if about else {}


def task_options(wildcards, *keys):
    task = config["tasks"][wildcards.task]
    name = BUNDLED_NAMES[wildcards.task] or task["name"] or wildcards.task
    return {"name": name, **{key: task[key] for key in keys}}


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
