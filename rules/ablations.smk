"""Ablations: what removing, scaling or quantizing weights costs in perplexity and on tasks.

Every (model, ablation, corpus) and every (model, ablation, task) is a job of its own: adding an ablation, a corpus or a
task runs no other again.

Required: <results>/checkpoints/{model}.json, <results>/super_weights/{model}.json, <results>/expert_routing/{model}.csv,
<results>/corpus/{corpus}.parquet.
Produces: <results>/variant_perplexity/{model}/{ablation}/{corpus}.parquet, <results>/ablation_perplexity/{model}.csv,
<results>/bundled_tasks/*.jsonl, <results>/task_requests/{model}/{task}.parquet,
<results>/ablation_eval/{model}/{ablation}/{task}.parquet, and per model <results>/ablation_impact/{model}/{ablation}.csv,
scaling_sweep, quantization_ablation and impact_summary; over models impact_comparison.
"""

from weight_atlas.ablations.choices import BUNDLED_TASKS

# Which weights an ablation is about: those detected, or for weights given by hand the tensors that they lie in.
WEIGHT_FILES = {
    "super_weights": "<results>/super_weights/{model}.json",
    "inventory": "<results>/tensor_inventory/{model}.parquet",
    "token_weights": "<results>/token_weights/{vector}.parquet",
    "expert_routing": "<results>/expert_routing/{model}.csv",
}
TASK_FILES = {
    "definition": f"{LIBRARY}/data/demo/tasks/{{bundled}}.yaml",
    "data": "<results>/bundled_tasks/{bundled}.jsonl",
}
WINDOW_SCORES = "<results>/variant_perplexity/{{model}}/{ablation}/{corpus}"
EVALUATION = "<results>/ablation_eval/{{model}}/{ablation}/{task}"


wildcard_constraints:
    ablation="|".join(map(re.escape, choices.ablations)),
    task="|".join(map(re.escape, config["tasks"])) or "none",
    bundled="|".join(BUNDLED_TASKS),


shown = shown_under("Super weights")  # beside which perplexities stand in the report


use rule per_job_on_gpu as variant_perplexity with:
    """Log-likelihood of fixed windows of a corpus under all variants of one ablation."""
    input:
        unpack(lambda wildcards: choices.weight_files(wildcards.model, wildcards.ablation, WEIGHT_FILES)),
        checkpoint="<results>/checkpoints/{model}.json",
        text="<results>/corpus/{corpus}.parquet",
    output:
        windows="<results>/variant_perplexity/{model}/{ablation}/{corpus}.parquet",
        description="<results>/variant_perplexity/{model}/{ablation}/{corpus}.json",
    pathvars:
        job="<step>/{model}/{ablation}/{corpus}",
    params:
        options=lambda wildcards: choices.variant_options("variant_perplexity", wildcards.model, wildcards.ablation),


use rule per_model as ablation_perplexity with:
    """Perplexity without the super weights, without random weights nearest in size, and of all other ablations."""
    input:
        windows=expand(f"{WINDOW_SCORES}.parquet", corpus=choices.corpora, ablation=config["ablations"]),
        descriptions=expand(f"{WINDOW_SCORES}.json", corpus=choices.corpora, ablation=config["ablations"]),
        baseline_windows=expand(f"{WINDOW_SCORES}.parquet", corpus=choices.corpora, ablation="baseline"),
    output:
        table=shown("<results>/ablation_perplexity/{model}.csv", "table"),
        figure=shown("<results>/ablation_perplexity/{model}.png", "figure"),
    conda:
        "../envs/lm.yaml"
    params:
        options={"corpora": choices.corpora},


rule ablation_perplexities:
    """Perplexity with and without super weights, of all models."""
    input:
        for_models("ablation_perplexity", "<results>/ablation_perplexity/{model}.csv"),


shown = shown_under("Ablations")


use rule per_job as bundled_tasks with:
    """The items of a small task, made from a corpus: word order, paragraphs or fixed phrases."""
    input:
        text=corpus_of("bundled_tasks"),
    output:
        table="<results>/bundled_tasks/{bundled}.jsonl",
    pathvars:
        job="<step>/{bundled}",
    params:
        options=lambda wildcards: {key: config["bundled_tasks"][key] for key in ("items", "seed")},


use rule per_job as task_requests with:
    """The requests of a task, built and tokenized once for a model."""
    input:
        unpack(task_files),
        checkpoint="<results>/checkpoints/{model}.json",
    output:
        requests="<results>/task_requests/{model}/{task}.parquet",
        description="<results>/task_requests/{model}/{task}.json",
    pathvars:
        job="<step>/{model}/{task}",
    conda:
        "../envs/lm.yaml"
    params:
        **step("task_requests", lambda wildcards: choices.task_state(wildcards.task)),
        options=lambda wildcards: {
            **choices.task_options(
                wildcards.model,
                wildcards.task,
                "folder",
                "mirror",
                "trust_code",
                "limit",
                "fewshot",
                "seed",
                "truncate",
            ),
            "trust_remote_code": config["models"][wildcards.model]["trust_remote_code"],
        },


use rule per_job_on_gpu as ablation_eval with:
    """One task of lm-evaluation-harness on all variants of one ablation."""
    input:
        unpack(task_files),
        unpack(lambda wildcards: choices.weight_files(wildcards.model, wildcards.ablation, WEIGHT_FILES)),
        checkpoint="<results>/checkpoints/{model}.json",
        requests="<results>/task_requests/{model}/{task}.parquet",
        description="<results>/task_requests/{model}/{task}.json",
    output:
        scores="<results>/ablation_eval/{model}/{ablation}/{task}.json",
        documents="<results>/ablation_eval/{model}/{ablation}/{task}.parquet",
    pathvars:
        job="<step>/{model}/{ablation}/{task}",
    params:
        **step("ablation_eval", lambda wildcards: choices.task_state(wildcards.task)),
        options=lambda wildcards: {
            **choices.variant_options("ablation_eval", wildcards.model, wildcards.ablation),
            **{key: config["tasks"][wildcards.task][key] for key in ("folder", "mirror", "trust_code")},
        },


use rule per_model_on_gpu as quantization_ablation with:
    """Round-to-nearest quantization, plain and sparing super weights: weights' error beside perplexity."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        impacts="<results>/ablation_impact/{model}",
        description=f"<results>/variant_perplexity/{{model}}/quantization_ablation/{choices.main_corpus}.json",
    output:
        table=shown("<results>/quantization_ablation/{model}.csv", "table"),
        matrices="<results>/quantization_ablation/{model}/matrices.csv",
        figure=shown("<results>/quantization_ablation/{model}.png", "figure"),
    params:
        options=lambda wildcards: {
            key: config["models"][wildcards.model][key] for key in ("dtype", "trust_remote_code")
        },


use rule per_model as impact_summary with:
    """What every ablation costs a model, on every task, item by item against the unchanged model."""
    input:
        scores=evaluations(f"{EVALUATION}.json"),
        documents=evaluations(f"{EVALUATION}.parquet"),
        descriptions=window_scores(f"{WINDOW_SCORES}.json"),
        windows=window_scores(f"{WINDOW_SCORES}.parquet"),
    output:
        # A folder, whichever ablations there are: Snakemake compares no inputs of a job that has a new output.
        impacts=directory("<results>/ablation_impact/{model}"),
        table=shown("<results>/impact_summary/{model}.csv", "table"),
        headline="<results>/impact_summary/{model}/headline.csv",
        figure=shown("<results>/impact_summary/{model}.png", "figure"),
        sweep=shown("<results>/scaling_sweep/{model}.csv", "table"),
        sweep_figure=shown("<results>/scaling_sweep/{model}.png", "figure"),
    conda:
        "../envs/lm.yaml"
    params:
        options=lambda wildcards: {
            **options("ablation_impact")(wildcards),
            "ablations": choices.compared(selection.analyses_of(wildcards.model)),
        },


use rule per_job as impact_comparison with:
    """What the same ablations cost different models."""
    input:
        headlines=for_models("impact_summary", "<results>/impact_summary/{model}/headline.csv"),
    output:
        table=shown("<results>/impact_comparison/models.csv", "table"),
        figure=shown("<results>/impact_comparison/models.png", "figure"),
    params:
        options={"models": selection.models_with("impact_summary")},


rule scaling_sweeps:
    """Perplexity and accuracies over factors on the super weights, of all models."""
    input:
        for_models("scaling_sweep", "<results>/scaling_sweep/{model}.csv"),


rule quantization_ablations:
    """Quantized variants of all models."""
    input:
        for_models("quantization_ablation", "<results>/quantization_ablation/{model}.csv"),


rule impact_summaries:
    """What every ablation costs, of all models and over them."""
    input:
        for_models("impact_summary", "<results>/impact_summary/{model}.csv"),
        "<results>/impact_comparison/models.csv" if for_models("impact_summary", "{model}") else [],
