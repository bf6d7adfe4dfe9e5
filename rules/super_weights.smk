"""Super weights: single weights of MLP output projections on which the whole model depends.

Required: <results>/checkpoints/{model}.json.
Produces: <results>/super_weights/{model}.json, .csv, .iterations.csv and .png.
"""


rule super_weights:
    """Super weights by the published procedure, with every round's spikes."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
    output:
        found="<results>/super_weights/{model}.json",
        table=report(
            "<results>/super_weights/{model}.csv",
            caption="../report/super_weights.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "table"},
        ),
        iterations="<results>/super_weights/{model}.iterations.csv",
        figure=report(
            "<results>/super_weights/{model}.png",
            caption="../report/super_weights.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "figure"},
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
