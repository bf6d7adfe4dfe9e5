"""Ablations: what removing, scaling or quantizing weights does to a model's perplexity.

Required: <results>/checkpoints/{model}.json, <results>/super_weights/{model}.json, <results>/corpus/{corpus}.parquet.
Produces: <results>/variant_perplexity/{model}/{ablation}/{corpus}.parquet, <results>/ablation_perplexity/{model}.csv and
.png.
"""


include: "evaluation_lookups.smk"


rule variant_perplexity:
    """Log-likelihood of fixed windows of a corpus under all variants of one ablation."""
    input:
        unpack(about_weights),
        checkpoint="<results>/checkpoints/{model}.json",
        text="<results>/corpus/{corpus}.parquet",
    output:
        windows="<results>/variant_perplexity/{model}/{ablation}/{corpus}.parquet",
        description="<results>/variant_perplexity/{model}/{ablation}/{corpus}.json",
    log:
        "<logs>/variant_perplexity/{model}/{ablation}/{corpus}.log",
    benchmark:
        "<benchmarks>/variant_perplexity/{model}/{ablation}/{corpus}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=16000,
        runtime=720,
    params:
        options=variant_options("variant_perplexity"),
        code=code_of("variant_perplexity"),
    script:
        "../scripts/variant_perplexity.py"


rule ablation_perplexity:
    """Perplexity without the super weights, without random weights nearest in size, and of all other ablations."""
    input:
        windows=all_window_scores("parquet", config["ablations"]),
        descriptions=all_window_scores("json", config["ablations"]),
        baseline_windows=all_window_scores("parquet", ["baseline"]),
    output:
        table=report(
            "<results>/ablation_perplexity/{model}.csv",
            caption="../report/ablation_perplexity.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "table"},
        ),
        figure=report(
            "<results>/ablation_perplexity/{model}.png",
            caption="../report/ablation_perplexity.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/ablation_perplexity/{model}.log",
    benchmark:
        "<benchmarks>/ablation_perplexity/{model}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        options={"corpora": list(EVALUATION_CORPORA)},
        code=code_of("ablation_perplexity"),
    script:
        "../scripts/ablation_perplexity.py"


rule ablation_perplexities:
    """Perplexity with and without super weights, of all models."""
    input:
        for_models("ablation_perplexity", "<results>/ablation_perplexity/{model}.csv"),
