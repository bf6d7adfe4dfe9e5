"""Ablations: what removing weights does to a model.

Required: <results>/checkpoints/{model}.json, <results>/super_weights/{model}.json, <results>/corpus/{corpus}.parquet.
Produces: <results>/ablation_perplexity/{model}.csv and .png.
"""


rule ablation_perplexity:
    """Perplexity without the super weights, and without random weights of the same size."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        super_weights="<results>/super_weights/{model}.json",
        text=corpus_of("ablation_perplexity"),
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
        "../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=16000,
        runtime=240,
    params:
        options=options("ablation_perplexity", "dtype", "trust_remote_code"),
        code=code_of("ablation_perplexity"),
    script:
        "../scripts/ablation_perplexity.py"


rule ablation_perplexities:
    """Perplexity with and without super weights, of all models."""
    input:
        for_models("ablation_perplexity", "<results>/ablation_perplexity/{model}.csv"),
