"""Super weights: single weights of MLP output projections on which the whole model depends.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet,
<results>/corpus/{corpus}.parquet.
Produces: over models <results>/super_weight_patterns/models.csv; <results>/super_weight_screening/{model}.csv, <results>/super_weights/{model}.json,
<results>/super_weight_verification/{model}.json, <results>/super_activations/{model}.csv,
<results>/massive_activations/{model}.json, <results>/generation/{model}.csv, <results>/expert_routing/{model}.csv and .json, with tables and figures beside them.
"""

shown = shown_under("Super weights")


use rule per_model as super_weight_screening with:
    """Candidates for super weights from the weights alone."""
    input:
        unpack(from_stream("screened")),
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table=shown("<results>/super_weight_screening/{model}.csv", "table"),
        figure=shown("<results>/super_weight_screening/{model}.png", "figure"),
    params:
        options=options("super_weight_screening"),


use rule per_model_on_gpu as super_weights with:
    """The weights that write a model's massive activations, and what the published procedure finds."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        found="<results>/super_weights/{model}.json",
        table=shown("<results>/super_weights/{model}.csv", "table"),
        iterations="<results>/super_weights/{model}.iterations.csv",
        steps="<results>/super_weights/{model}.steps.csv",
        contributions="<results>/super_weights/{model}.contributions.csv",
        agreement="<results>/super_weights/{model}.agreement.csv",
        residual="<results>/super_weights/{model}.residual.parquet",
        figure=shown("<results>/super_weights/{model}.png", "spikes"),
        iterations_figure=shown("<results>/super_weights/{model}.iterations.png", "iterations"),
        residual_figure=shown("<results>/super_weights/{model}.residual.png", "residual stream"),
        shares_figure=shown("<results>/super_weights/{model}.shares.png", "contributions"),
    params:
        options=options("super_weights", "dtype", "trust_remote_code"),


use rule per_model_on_gpu as weight_attribution with:
    """First-order effect of every weight on the loss, from one backward pass."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        text=corpus_of("weight_attribution"),
    output:
        found="<results>/weight_attribution/{model}.json",
        effects="<results>/weight_attribution/{model}.parquet",
        table=shown("<results>/weight_attribution/{model}.csv", "table"),
        figure=shown("<results>/weight_attribution/{model}.png", "figure"),
    params:
        options=options("weight_attribution", "dtype", "trust_remote_code"),


use rule per_model_on_gpu as super_weight_verification with:
    """Whether super weights matter: each removed alone, together, and against random weights of its size."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        super_weights="<results>/super_weights/{model}.json",
        super_weight_screening="<results>/super_weight_screening/{model}.csv",
        weight_attribution="<results>/weight_attribution/{model}.parquet",
        text=corpus_of("super_weight_verification"),
    output:
        verdict="<results>/super_weight_verification/{model}.json",
        table=shown("<results>/super_weight_verification/{model}.csv", "table"),
        variants="<results>/super_weight_verification/{model}.variants.csv",
        figure=shown("<results>/super_weight_verification/{model}.png", "figure"),
    params:
        options=options("super_weight_verification", "dtype", "trust_remote_code"),


use rule per_model_on_gpu as super_activations with:
    """The tokens at which super activations arise, and the attention that their positions draw."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        super_weights="<results>/super_weights/{model}.json",
        text=corpus_of("super_activations"),
    output:
        places=shown("<results>/super_activations/{model}.csv", "tokens"),
        sinks="<results>/super_activations/{model}.sinks.csv",
        figure=shown("<results>/super_activations/{model}.png", "figure"),
    params:
        options=options("super_activations", "dtype", "trust_remote_code"),


use rule per_model_on_gpu as generation with:
    """Text that a model continues as it is, without its super weights, and with their activations restored."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        super_weight_verification="<results>/super_weight_verification/{model}.json",
    output:
        table=shown("<results>/generation/{model}.csv", "table"),
        figure=shown("<results>/generation/{model}.png", "figure"),
    params:
        options=options("generation", "dtype", "trust_remote_code"),


use rule per_model_on_gpu as massive_activations with:
    """Massive activations from where they arise to where they are removed, and the attention that they draw."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        super_weights="<results>/super_weights/{model}.json",
        text=corpus_of("massive_activations"),
    output:
        found="<results>/massive_activations/{model}.json",
        sites=shown("<results>/massive_activations/{model}.csv", "sites"),
        weights=shown("<results>/massive_activations/{model}.weights.csv", "weights"),
        heads="<results>/massive_activations/{model}.heads.csv",
        definitions=shown("<results>/massive_activations/{model}.definitions.csv", "definitions"),
        figure=shown("<results>/massive_activations/{model}.png", "figure"),
    params:
        options=options("massive_activations", "dtype", "trust_remote_code"),


use rule per_model_on_gpu as expert_routing with:
    """Every expert of a mixture of experts: how often it is asked, and its largest activations."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        text=corpus_of("expert_routing"),
    output:
        found="<results>/expert_routing/{model}.json",
        table=shown("<results>/expert_routing/{model}.csv", "table"),
        figure=shown("<results>/expert_routing/{model}.png", "figure"),
    params:
        options=options("expert_routing", "dtype", "trust_remote_code"),


use rule per_job as super_weight_patterns with:
    """How many super weights models have, of which kind, how deep, and which share a channel or a neuron."""
    input:
        verdicts=for_models("super_weight_verification", "<results>/super_weight_verification/{model}.json"),
        summaries=for_models("super_weight_verification", "<results>/architecture_summary/{model}.json"),
    output:
        table=shown("<results>/super_weight_patterns/models.csv", "models"),
        weights=shown("<results>/super_weight_patterns/weights.csv", "weights"),
        figure=shown("<results>/super_weight_patterns/models.png", "figure"),


rule super_weight_tables:
    """The super weights of all models."""
    input:
        for_models("super_weights", "<results>/super_weights/{model}.csv"),


rule super_weight_screenings:
    """The screening of all models."""
    input:
        for_models("super_weight_screening", "<results>/super_weight_screening/{model}.csv"),


rule weight_attributions:
    """The first-order effects of the weights of all models."""
    input:
        for_models("weight_attribution", "<results>/weight_attribution/{model}.csv"),


rule super_weight_verifications:
    """The verdict on the super weights of all models."""
    input:
        for_models("super_weight_verification", "<results>/super_weight_verification/{model}.json"),


rule super_activation_tables:
    """The super activations of all models."""
    input:
        for_models("super_activations", "<results>/super_activations/{model}.csv"),


rule generations:
    """The generated texts of all models."""
    input:
        for_models("generation", "<results>/generation/{model}.csv"),


rule massive_activation_tables:
    """The massive activations of all models."""
    input:
        for_models("massive_activations", "<results>/massive_activations/{model}.csv"),


rule expert_routings:
    """The experts of all models; for a model without a mixture of experts the table says so."""
    input:
        for_models("expert_routing", "<results>/expert_routing/{model}.csv"),
