"""Vocabulary: what neurons, super weights and chosen weights do to predictions, and to the layers above them.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet,
<results>/corpus/{corpus}.parquet, and <results>/super_weights/{model}.json of models with that analysis.
Produces: <results>/token_classes, neuron_scan, neuron_labels and neuron_effects/{model}/, <results>/windows,
intervention_targets, interventions, cascade and super_weight_cards/{model}/, <results>/vocabulary_summary/.
"""

shown = shown_under("Vocabulary")


use rule per_model as token_classes with:
    """Which tokens are digits, pronouns, punctuation: one boolean matrix."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        untrained_rows="<results>/untrained_rows/{model}.csv",
    output:
        table="<results>/token_classes/{model}.parquet",
    params:
        options=options("token_classes", "trust_remote_code"),


use rule per_model as neuron_scan with:
    """Effects of all neurons on the vocabulary: moments and strongest tokens."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        token_classes="<results>/token_classes/{model}.parquet",
    output:
        table="<results>/neuron_scan/{model}.parquet",
    threads: 4
    resources:
        **needs(gpu=one_gpu),
    params:
        options=options("neuron_scan"),


use rule per_model as neuron_effects with:
    """What kind of effect each neuron has on the vocabulary, the map of all, and cards of single ones."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        token_classes="<results>/token_classes/{model}.parquet",
        neuron_scan="<results>/neuron_scan/{model}.parquet",
        super_weights=lambda wildcards: (
            ["<results>/super_weights/{model}.json"]
            if "super_weights" in selection.analyses_of(wildcards.model)
            else []
        ),
    output:
        labels="<results>/neuron_labels/{model}.parquet",
        counts=shown("<results>/neuron_labels/{model}.csv", "table"),
        map_of_all=shown("<results>/neuron_labels/{model}.png", "figure"),
        cards="<results>/neuron_effects/{model}/neurons.jsonl",
        table=shown("<results>/neuron_effects/{model}/neurons.csv", "table"),
        figure=shown("<results>/neuron_effects/{model}.png", "figure"),
        figures=shown_figures("<results>/neuron_effects/{model}/figures", "Vocabulary"),
    resources:
        **needs(gpu=one_gpu),
    params:
        options={**config["neuron_labels"], **config["neuron_effects"]},


use rule per_model as intervention_targets with:
    """The weights to intervene on, detected and configured ones, and the windows of text that interventions share."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        super_weights=lambda wildcards: (
            ["<results>/super_weights/{model}.json"]
            if selection.section("intervention_targets", wildcards.model)["most"]
            else []
        ),
        text=corpus_of("windows"),
    output:
        targets="<results>/intervention_targets/{model}.json",
        windows="<results>/windows/{model}.parquet",
        report=shown("<results>/windows/{model}.json", "description"),
    params:
        options=lambda wildcards: {
            **selection.section("intervention_targets", wildcards.model),
            **options("windows", "trust_remote_code")(wildcards),
        },


use rule per_model_on_gpu as interventions with:
    """What removing single weights does to predictions, window by window, beside controls."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        targets="<results>/intervention_targets/{model}.json",
        windows="<results>/windows/{model}.parquet",
        token_classes="<results>/token_classes/{model}.parquet",
    output:
        table="<results>/interventions/{model}.parquet",
        changes="<results>/interventions/{model}.changes.parquet",
    params:
        options=options("interventions", "dtype", "trust_remote_code"),


use rule per_model_on_gpu as cascade with:
    """How the removal of single weights travels through the layers above them."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        targets="<results>/intervention_targets/{model}.json",
        windows="<results>/windows/{model}.parquet",
    output:
        table=shown("<results>/cascade/{model}.csv", "table"),
        tokens_table="<results>/cascade/{model}.tokens.parquet",
        figure=shown("<results>/cascade/{model}.png", "figure"),
        figures=shown_figures("<results>/cascade/{model}/figures", "Vocabulary"),
    params:
        options=options("cascade", "dtype", "trust_remote_code"),


use rule per_model as super_weight_cards with:
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
        table=shown("<results>/super_weight_cards/{model}/super_weights.csv", "table"),
        figure=shown("<results>/super_weight_cards/{model}.png", "figure"),
        figures=shown_figures("<results>/super_weight_cards/{model}/figures", "Vocabulary"),
    conda:
        "../envs/lm.yaml"
    params:
        options=options("super_weight_cards"),


use rule per_job as vocabulary_summary with:
    """All models side by side: labels of neurons, enriched classes, effects of super weights."""
    input:
        labels=for_models("neuron_labels", "<results>/neuron_labels/{model}.csv"),
        neurons=for_models("neuron_effects", "<results>/neuron_effects/{model}/neurons.jsonl"),
        weights=for_models("super_weight_cards", "<results>/super_weight_cards/{model}/super_weights.csv"),
    output:
        table=shown("<results>/vocabulary_summary/models.csv", "table"),
        classes="<results>/vocabulary_summary/classes.csv",
        summary="<results>/vocabulary_summary/cross_model_summary.json",
        figure=shown("<results>/vocabulary_summary/models.png", "figure"),
    params:
        options=config["vocabulary_summary"],


rule vocabulary:
    """Everything about vocabulary and cascade, of all models."""
    input:
        for_models("neuron_labels", "<results>/neuron_labels/{model}.csv"),
        for_models("neuron_effects", "<results>/neuron_effects/{model}/neurons.csv"),
        for_models("cascade", "<results>/cascade/{model}.csv"),
        for_models("super_weight_cards", "<results>/super_weight_cards/{model}/super_weights.csv"),
        rules.vocabulary_summary.output,
