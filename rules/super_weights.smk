"""Super weights: single weights of MLP output projections on which the whole model depends.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet,
<results>/corpus/{corpus}.parquet.
Produces: <results>/super_weight_screening/{model}.csv, <results>/super_weights/{model}.json,
<results>/super_weight_verification/{model}.json, <results>/super_activations/{model}.csv,
<results>/expert_routing/{model}.csv and .json, with tables and figures beside them.
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
        "../envs/lm.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=16000,
        runtime=120,
    params:
        options=options("super_weights", "dtype", "trust_remote_code"),
        code=code_of("super_weights"),
    script:
        "../scripts/super_weights.py"


rule super_weight_verification:
    """Whether super weights matter: each removed alone, together, and against random weights of its size."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        super_weights="<results>/super_weights/{model}.json",
        super_weight_screening="<results>/super_weight_screening/{model}.csv",
        text=corpus_of("super_weight_verification"),
    output:
        verdict="<results>/super_weight_verification/{model}.json",
        table=report(
            "<results>/super_weight_verification/{model}.csv",
            caption="../report/super_weight_verification.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "table"},
        ),
        variants="<results>/super_weight_verification/{model}.variants.csv",
        figure=report(
            "<results>/super_weight_verification/{model}.png",
            caption="../report/super_weight_verification.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/super_weight_verification/{model}.log",
    benchmark:
        "<benchmarks>/super_weight_verification/{model}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=16000,
        runtime=720,
    params:
        options=options("super_weight_verification", "dtype", "trust_remote_code"),
        code=code_of("super_weight_verification"),
    script:
        "../scripts/super_weight_verification.py"


rule super_activations:
    """The tokens at which super activations arise, and the attention that their positions draw."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        super_weights="<results>/super_weights/{model}.json",
        text=corpus_of("super_activations"),
    output:
        places=report(
            "<results>/super_activations/{model}.csv",
            caption="../report/super_activations.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "tokens"},
        ),
        sinks="<results>/super_activations/{model}.sinks.csv",
        figure=report(
            "<results>/super_activations/{model}.png",
            caption="../report/super_activations.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/super_activations/{model}.log",
    benchmark:
        "<benchmarks>/super_activations/{model}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=16000,
        runtime=120,
    params:
        options=options("super_activations", "dtype", "trust_remote_code"),
        code=code_of("super_activations"),
    script:
        "../scripts/super_activations.py"


rule expert_routing:
    """Every expert of a mixture of experts: how often it is asked, and its largest activations."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        text=corpus_of("expert_routing"),
    output:
        found="<results>/expert_routing/{model}.json",
        table=report(
            "<results>/expert_routing/{model}.csv",
            caption="../report/expert_routing.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "table"},
        ),
        figure=report(
            "<results>/expert_routing/{model}.png",
            caption="../report/expert_routing.rst",
            category="Super weights",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/expert_routing/{model}.log",
    benchmark:
        "<benchmarks>/expert_routing/{model}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=32000,
        runtime=240,
    params:
        options=options("expert_routing", "dtype", "trust_remote_code"),
        code=code_of("expert_routing"),
    script:
        "../scripts/expert_routing.py"


rule super_weight_tables:
    """The super weights of all models."""
    input:
        for_models("super_weights", "<results>/super_weights/{model}.csv"),


rule super_weight_screenings:
    """The screening of all models."""
    input:
        for_models("super_weight_screening", "<results>/super_weight_screening/{model}.csv"),


rule super_weight_verifications:
    """The verdict on the super weights of all models."""
    input:
        for_models("super_weight_verification", "<results>/super_weight_verification/{model}.json"),


rule super_activation_tables:
    """The super activations of all models."""
    input:
        for_models("super_activations", "<results>/super_activations/{model}.csv"),


rule expert_routings:
    """The experts of all models; for a model without a mixture of experts the table says so."""
    input:
        for_models("expert_routing", "<results>/expert_routing/{model}.csv"),
