"""What single weights do to predictions, and to the layers above them.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet,
<results>/corpus/{corpus}.parquet, <results>/token_classes/{model}.parquet, and <results>/super_weights/{model}.json of
models with that analysis.
Produces: <results>/windows, intervention_targets, interventions, cascade/{model}/ and super_weight_cards/{model}/.
"""


rule windows:
    """Windows of token ids that all interventions on a model share."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        text=corpus_of("windows"),
    output:
        table="<results>/windows/{model}.parquet",
        report=report(
            "<results>/windows/{model}.json",
            caption="../report/windows.rst",
            category="Vocabulary",
            labels={"model": "{model}", "type": "description"},
        ),
    log:
        "<logs>/windows/{model}.log",
    benchmark:
        "<benchmarks>/windows/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        options=options("windows", "trust_remote_code"),
        code=code_of("windows"),
    script:
        "../scripts/windows.py"


rule intervention_targets:
    """The weights to intervene on: detected super weights and configured coordinates."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        super_weights="<results>/super_weights/{model}.json" if config["intervention_targets"]["most"] else [],
    output:
        targets="<results>/intervention_targets/{model}.json",
    log:
        "<logs>/intervention_targets/{model}.log",
    benchmark:
        "<benchmarks>/intervention_targets/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        options=options("intervention_targets"),
        code=code_of("intervention_targets"),
    script:
        "../scripts/intervention_targets.py"


rule interventions:
    """What removing single weights does to predictions, window by window, beside controls."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        targets="<results>/intervention_targets/{model}.json",
        windows="<results>/windows/{model}.parquet",
        token_classes="<results>/token_classes/{model}.parquet",
    output:
        table="<results>/interventions/{model}.parquet",
        changes="<results>/interventions/{model}.changes.parquet",
    log:
        "<logs>/interventions/{model}.log",
    benchmark:
        "<benchmarks>/interventions/{model}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=16000,
        runtime=480,
    params:
        options=options("interventions", "dtype", "trust_remote_code"),
        code=code_of("interventions"),
    script:
        "../scripts/interventions.py"


rule cascade:
    """How the removal of single weights travels through the layers above them."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        targets="<results>/intervention_targets/{model}.json",
        windows="<results>/windows/{model}.parquet",
    output:
        table=report(
            "<results>/cascade/{model}.csv",
            caption="../report/cascade.rst",
            category="Vocabulary",
            labels={"model": "{model}", "type": "table"},
        ),
        tokens_table="<results>/cascade/{model}.tokens.parquet",
        figure=report(
            "<results>/cascade/{model}.png",
            caption="../report/cascade.rst",
            category="Vocabulary",
            labels={"model": "{model}", "type": "figure"},
        ),
        figures=report(
            directory("<results>/cascade/{model}/figures"),
            patterns=["{figure}.png"],
            caption="../report/cascade.rst",
            category="Vocabulary",
            subcategory="{model}",
            labels={"figure": "{figure}"},
        ),
    log:
        "<logs>/cascade/{model}.log",
    benchmark:
        "<benchmarks>/cascade/{model}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=16000,
        runtime=240,
    params:
        options=options("cascade", "dtype", "trust_remote_code"),
        code=code_of("cascade"),
    script:
        "../scripts/cascade.py"


rule super_weight_cards:
    """What each super weight does: changes with intervals and controls, words, cascade."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        targets="<results>/intervention_targets/{model}.json",
        interventions="<results>/interventions/{model}.parquet",
        changes="<results>/interventions/{model}.changes.parquet",
        cascade="<results>/cascade/{model}.csv",
        token_classes="<results>/token_classes/{model}.parquet",
    output:
        cards="<results>/super_weight_cards/{model}/super_weights.jsonl",
        table=report(
            "<results>/super_weight_cards/{model}/super_weights.csv",
            caption="../report/super_weight_cards.rst",
            category="Vocabulary",
            labels={"model": "{model}", "type": "table"},
        ),
        figure=report(
            "<results>/super_weight_cards/{model}.png",
            caption="../report/super_weight_cards.rst",
            category="Vocabulary",
            labels={"model": "{model}", "type": "figure"},
        ),
        figures=report(
            directory("<results>/super_weight_cards/{model}/figures"),
            patterns=["{figure}.png"],
            caption="../report/super_weight_cards.rst",
            category="Vocabulary",
            subcategory="{model}",
            labels={"figure": "{figure}"},
        ),
    log:
        "<logs>/super_weight_cards/{model}.log",
    benchmark:
        "<benchmarks>/super_weight_cards/{model}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        options=options("super_weight_cards"),
        code=code_of("super_weight_cards"),
    script:
        "../scripts/super_weight_cards.py"
