"""Vocabulary and cascade of all models: side by side, and everything at once.

Required: <results>/neuron_labels/{model}.csv, <results>/neuron_effects/{model}/ and
<results>/super_weight_cards/{model}/ of models with these analyses.
Produces: <results>/vocabulary_summary/.
"""


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
