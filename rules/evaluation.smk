"""Downstream evaluation: what ablations and quantization cost in perplexity and on tasks.

Every (model, ablation, task) is a job of its own: adding an ablation or a task runs no other evaluation again.

Required: <results>/checkpoints/{model}.json, <results>/super_weights/{model}.json, <results>/corpus/{corpus}.parquet,
<results>/variant_perplexity/{model}/{ablation}/{corpus}.parquet.
Produces: <results>/bundled_tasks/*.jsonl, <results>/task_requests/{model}/{task}.parquet,
<results>/ablation_eval/{model}/{ablation}/{task}.parquet,
<results>/ablation_impact/{model}/{ablation}.csv, and per model scaling_sweep, quantization_ablation and impact_summary;
over models impact_comparison.
"""


rule bundled_tasks:
    """The items of a small task, made from a corpus: word order, paragraphs or fixed phrases."""
    input:
        text=corpus_of("bundled_tasks"),
    output:
        table="<results>/bundled_tasks/{bundled}.jsonl",
    log:
        "<logs>/bundled_tasks/{bundled}.log",
    benchmark:
        "<benchmarks>/bundled_tasks/{bundled}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        options=lambda wildcards: {key: config["bundled_tasks"][key] for key in ("items", "seed")},
        code=code_of("bundled_tasks"),
    script:
        "../scripts/bundled_tasks.py"


rule task_requests:
    """The requests of a task, built and tokenized once for a model."""
    input:
        unpack(task_files),
        checkpoint="<results>/checkpoints/{model}.json",
    output:
        requests="<results>/task_requests/{model}/{task}.parquet",
        description="<results>/task_requests/{model}/{task}.json",
    log:
        "<logs>/task_requests/{model}/{task}.log",
    benchmark:
        "<benchmarks>/task_requests/{model}/{task}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        options=lambda wildcards: {
            **task_options(wildcards, "folder", "mirror", "limit", "fewshot", "seed", "truncate"),
            "trust_remote_code": config["models"][wildcards.model]["trust_remote_code"],
        },
        code=lambda wildcards: [code_of("task_requests")(wildcards), files_of_task(wildcards)],
    script:
        "../scripts/task_requests.py"


rule ablation_eval:
    """One task of lm-evaluation-harness on all variants of one ablation."""
    input:
        unpack(task_files),
        unpack(about_weights),
        checkpoint="<results>/checkpoints/{model}.json",
        requests="<results>/task_requests/{model}/{task}.parquet",
        description="<results>/task_requests/{model}/{task}.json",
    output:
        scores="<results>/ablation_eval/{model}/{ablation}/{task}.json",
        documents="<results>/ablation_eval/{model}/{ablation}/{task}.parquet",
    log:
        "<logs>/ablation_eval/{model}/{ablation}/{task}.log",
    benchmark:
        "<benchmarks>/ablation_eval/{model}/{ablation}/{task}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=16000,
        runtime=720,
    params:
        options=lambda wildcards: {
            **variant_options("ablation_eval")(wildcards),
            **{key: config["tasks"][wildcards.task][key] for key in ("folder", "mirror")},
        },
        code=lambda wildcards: [code_of("ablation_eval")(wildcards), files_of_task(wildcards)],
    script:
        "../scripts/ablation_eval.py"


rule ablation_impact:
    """What the variants of one ablation cost on every task, item by item against the unchanged model."""
    input:
        scores=evaluations("json"),
        documents=evaluations("parquet"),
        baseline_documents=evaluations("parquet", "baseline"),
        descriptions=window_scores("json"),
        windows=window_scores("parquet"),
        baseline_windows=window_scores("parquet", "baseline"),
    output:
        table="<results>/ablation_impact/{model}/{ablation}.csv",
    log:
        "<logs>/ablation_impact/{model}/{ablation}.log",
    benchmark:
        "<benchmarks>/ablation_impact/{model}/{ablation}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        options=options("ablation_impact"),
        code=code_of("ablation_impact"),
    script:
        "../scripts/ablation_impact.py"


rule scaling_sweep:
    """Perplexity and accuracies with the super weights multiplied by several factors."""
    input:
        impact="<results>/ablation_impact/{model}/scaling_sweep.csv",
    output:
        table=report(
            "<results>/scaling_sweep/{model}.csv",
            caption="../report/scaling_sweep.rst",
            category="Ablations",
            labels={"model": "{model}", "type": "table"},
        ),
        figure=report(
            "<results>/scaling_sweep/{model}.png",
            caption="../report/scaling_sweep.rst",
            category="Ablations",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/scaling_sweep/{model}.log",
    benchmark:
        "<benchmarks>/scaling_sweep/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_of("scaling_sweep"),
    script:
        "../scripts/scaling_sweep.py"


rule quantization_ablation:
    """Round-to-nearest quantization, plain and sparing super weights: weights' error beside perplexity."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        impact="<results>/ablation_impact/{model}/quantization_ablation.csv",
        description=f"<results>/variant_perplexity/{{model}}/quantization_ablation/{MAIN_CORPUS}.json",
    output:
        table=report(
            "<results>/quantization_ablation/{model}.csv",
            caption="../report/quantization_ablation.rst",
            category="Ablations",
            labels={"model": "{model}", "type": "table"},
        ),
        matrices="<results>/quantization_ablation/{model}/matrices.csv",
        figure=report(
            "<results>/quantization_ablation/{model}.png",
            caption="../report/quantization_ablation.rst",
            category="Ablations",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/quantization_ablation/{model}.log",
    benchmark:
        "<benchmarks>/quantization_ablation/{model}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=16000,
        runtime=240,
    params:
        options=lambda wildcards: {
            key: config["models"][wildcards.model][key] for key in ("dtype", "trust_remote_code")
        },
        code=code_of("quantization_ablation"),
    script:
        "../scripts/quantization_ablation.py"


rule impact_summary:
    """What every ablation costs a model, on every task, in one table and one figure."""
    input:
        impacts=expand("<results>/ablation_impact/{{model}}/{ablation}.csv", ablation=ABLATIONS),
    output:
        table=report(
            "<results>/impact_summary/{model}.csv",
            caption="../report/impact_summary.rst",
            category="Ablations",
            labels={"model": "{model}", "type": "table"},
        ),
        headline="<results>/impact_summary/{model}/headline.csv",
        figure=report(
            "<results>/impact_summary/{model}.png",
            caption="../report/impact_summary.rst",
            category="Ablations",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/impact_summary/{model}.log",
    benchmark:
        "<benchmarks>/impact_summary/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_of("impact_summary"),
    script:
        "../scripts/impact_summary.py"


rule impact_comparison:
    """What the same ablations cost different models."""
    input:
        headlines=for_models("impact_summary", "<results>/impact_summary/{model}/headline.csv"),
    output:
        table=report(
            "<results>/impact_comparison/models.csv",
            caption="../report/impact_comparison.rst",
            category="Ablations",
            labels={"type": "table"},
        ),
        figure=report(
            "<results>/impact_comparison/models.png",
            caption="../report/impact_comparison.rst",
            category="Ablations",
            labels={"type": "figure"},
        ),
    log:
        "<logs>/impact_comparison.log",
    benchmark:
        "<benchmarks>/impact_comparison.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        options=lambda wildcards: {
            "models": [name for name in config["models"] if "impact_summary" in analyses_of(name)]
        },
        code=code_of("impact_comparison"),
    script:
        "../scripts/impact_comparison.py"


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
