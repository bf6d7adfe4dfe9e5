"""Super weights: single weights of MLP output projections on which the whole model depends.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet.
Produces: <results>/super_weight_screening/{model}.csv, .png; <results>/super_weights/{model}.json, with tables and
figures beside it.
"""


rule super_weight_screening:
    """Candidates for super weights from the weights alone."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table=report(
            "<results>/super_weight_screening/{model}.csv",
            caption="../report/super_weight_screening.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "table"},
        ),
        figure=report(
            "<results>/super_weight_screening/{model}.png",
            caption="../report/super_weight_screening.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/super_weight_screening/{model}.log",
    benchmark:
        "<benchmarks>/super_weight_screening/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        options=options("super_weight_screening"),
        code=code_of("super_weight_screening"),
    script:
        "../scripts/super_weight_screening.py"


rule super_weights:
    """The weights that write a model's massive activations, and what the published procedure finds."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        found="<results>/super_weights/{model}.json",
        table=report(
            "<results>/super_weights/{model}.csv",
            caption="../report/super_weights.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "table"},
        ),
        iterations="<results>/super_weights/{model}.iterations.csv",
        steps="<results>/super_weights/{model}.steps.csv",
        contributions="<results>/super_weights/{model}.contributions.csv",
        agreement="<results>/super_weights/{model}.agreement.csv",
        figure=report(
            "<results>/super_weights/{model}.png",
            caption="../report/super_weights.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "spikes"},
        ),
        iterations_figure=report(
            "<results>/super_weights/{model}.iterations.png",
            caption="../report/super_weights.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "iterations"},
        ),
        residual_figure=report(
            "<results>/super_weights/{model}.residual.png",
            caption="../report/super_weights.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "residual stream"},
        ),
        shares_figure=report(
            "<results>/super_weights/{model}.shares.png",
            caption="../report/super_weights.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "contributions"},
        ),
    log:
        "<logs>/super_weights/{model}.log",
    benchmark:
        "<benchmarks>/super_weights/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=120,
    params:
        options=options("super_weights", "dtype", "trust_remote_code"),
        code=code_of("super_weights"),
    script:
        "../scripts/super_weights.py"


rule super_weight_tables:
    """The super weights of all models."""
    input:
        for_models("super_weights", "<results>/super_weights/{model}.csv"),


rule super_weight_screenings:
    """The screening of all models."""
    input:
        for_models("super_weight_screening", "<results>/super_weight_screening/{model}.csv"),
