"""Effects of neurons on the vocabulary: all of them in a scan, single ones in cards.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet, and
<results>/super_weights/{model}.json of models with that analysis.
Produces: <results>/token_classes, neuron_scan, neuron_labels and neuron_effects/{model}/.
"""


rule token_classes:
    """Which tokens are digits, pronouns, punctuation: one boolean matrix."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table="<results>/token_classes/{model}.parquet",
    log:
        "<logs>/token_classes/{model}.log",
    benchmark:
        "<benchmarks>/token_classes/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        options=options("token_classes", "trust_remote_code"),
        code=code_of("token_classes"),
    script:
        "../scripts/token_classes.py"


rule neuron_scan:
    """Effects of all neurons on the vocabulary: moments and strongest tokens."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        token_classes="<results>/token_classes/{model}.parquet",
    output:
        table="<results>/neuron_scan/{model}.parquet",
    log:
        "<logs>/neuron_scan/{model}.log",
    benchmark:
        "<benchmarks>/neuron_scan/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 4
    resources:
        gpu=one_gpu,
        mem_mb=8000,
        runtime=240,
    params:
        options=options("neuron_scan"),
        code=code_of("neuron_scan"),
    script:
        "../scripts/neuron_scan.py"


rule neuron_labels:
    """What kind of effect each neuron has, and the map of all neurons."""
    input:
        neuron_scan="<results>/neuron_scan/{model}.parquet",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table="<results>/neuron_labels/{model}.parquet",
        counts=report(
            "<results>/neuron_labels/{model}.csv",
            caption="../report/neuron_labels.rst",
            category="Vocabulary",
            labels={"model": "{model}", "type": "table"},
        ),
        figure=report(
            "<results>/neuron_labels/{model}.png",
            caption="../report/neuron_labels.rst",
            category="Vocabulary",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/neuron_labels/{model}.log",
    benchmark:
        "<benchmarks>/neuron_labels/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=20,
    params:
        options=options("neuron_labels"),
        code=code_of("neuron_labels"),
    script:
        "../scripts/neuron_labels.py"


rule neuron_effects:
    """What single neurons do to the vocabulary: cards, tables and figures."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        token_classes="<results>/token_classes/{model}.parquet",
        neuron_labels="<results>/neuron_labels/{model}.parquet",
        super_weights=lambda wildcards: (
            ["<results>/super_weights/{model}.json"] if "super_weights" in analyses_of(wildcards.model) else []
        ),
    output:
        cards="<results>/neuron_effects/{model}/neurons.jsonl",
        table=report(
            "<results>/neuron_effects/{model}/neurons.csv",
            caption="../report/neuron_effects.rst",
            category="Vocabulary",
            labels={"model": "{model}", "type": "table"},
        ),
        figure=report(
            "<results>/neuron_effects/{model}.png",
            caption="../report/neuron_effects.rst",
            category="Vocabulary",
            labels={"model": "{model}", "type": "figure"},
        ),
        figures=report(
            directory("<results>/neuron_effects/{model}/figures"),
            patterns=["{figure}.png"],
            caption="../report/neuron_effects.rst",
            category="Vocabulary",
            subcategory="{model}",
            labels={"figure": "{figure}"},
        ),
    log:
        "<logs>/neuron_effects/{model}.log",
    benchmark:
        "<benchmarks>/neuron_effects/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=8000,
        runtime=60,
    params:
        options=options("neuron_effects"),
        code=code_of("neuron_effects"),
    script:
        "../scripts/neuron_effects.py"
