"""Vocabulary and cascade: what neurons and single weights do to words and to the layers above them.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet,
<results>/corpus/{corpus}.parquet, and <results>/super_weights/{model}.json of models with that analysis.
Produces: <results>/token_classes, neuron_scan, neuron_labels, neuron_effects/{model}/, windows, intervention_targets,
interventions, cascade/{model}/, super_weight_cards/{model}/ and vocabulary_summary/.
"""


rule token_classes:
    """Which tokens are digits, pronouns, punctuation: one boolean matrix."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
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
        super_weights=lambda wildcards: (
            ["<results>/super_weights/{model}.json"] if "super_weights" in analyses_of(wildcards.model) else []
        ),
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
        "../envs/analysis.yaml"
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
        "../envs/analysis.yaml"
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
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        options=options("super_weight_cards"),
        code=code_of("super_weight_cards"),
    script:
        "../scripts/super_weight_cards.py"


rule vocabulary_summary:
    """All models side by side: labels of neurons, enriched classes, effects of super weights."""
    input:
        labels=for_models("neuron_labels", "<results>/neuron_labels/{model}.csv"),
        neurons=for_models("neuron_effects", "<results>/neuron_effects/{model}/neurons.jsonl"),
        weights=for_models("super_weight_cards", "<results>/super_weight_cards/{model}/super_weights.csv"),
    output:
        table=report(
            "<results>/vocabulary_summary/models.csv",
            caption="../report/vocabulary_summary.rst",
            category="Vocabulary",
            labels={"type": "table"},
        ),
        classes="<results>/vocabulary_summary/classes.csv",
        summary="<results>/vocabulary_summary/cross_model_summary.json",
        figure=report(
            "<results>/vocabulary_summary/models.png",
            caption="../report/vocabulary_summary.rst",
            category="Vocabulary",
            labels={"type": "figure"},
        ),
    log:
        "<logs>/vocabulary_summary.log",
    benchmark:
        "<benchmarks>/vocabulary_summary.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        options=config["vocabulary_summary"],
        code=code_of("vocabulary_summary"),
    script:
        "../scripts/vocabulary_summary.py"


rule vocabulary:
    """Everything about vocabulary and cascade, of all models."""
    input:
        for_models("neuron_labels", "<results>/neuron_labels/{model}.csv"),
        for_models("neuron_effects", "<results>/neuron_effects/{model}/neurons.csv"),
        for_models("cascade", "<results>/cascade/{model}.csv"),
        for_models("super_weight_cards", "<results>/super_weight_cards/{model}/super_weights.csv"),
        rules.vocabulary_summary.output,
