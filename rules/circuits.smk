"""Circuits: how heads compose, and which tokens directions name, from the weights alone.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet,
<results>/token_classes/{model}.parquet, <results>/attention_head/{model}.csv.
Produces: <results>/head_composition/{model}.parquet, .csv and .png, and {model}/layers.csv;
<results>/singular_directions/{model}.parquet, .csv and .png; <results>/head_circuits/{model}.jsonl, .csv and .png.
"""

shown = shown_under("Circuits")


use rule per_model as head_composition with:
    """How much attention heads read of what heads of earlier layers write: Q-, K- and V-composition."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        pairs="<results>/head_composition/{model}.parquet",
        table=shown("<results>/head_composition/{model}.csv", "strongest pairs"),
        layers=shown("<results>/head_composition/{model}/layers.csv", "pairs of layers"),
        figure=shown("<results>/head_composition/{model}.png", "figure"),
    threads: 4
    params:
        options=options("head_composition"),


rule head_compositions:
    """The compositions of the heads of all models."""
    input:
        for_models("head_composition", "<results>/head_composition/{model}.csv"),


use rule per_model as singular_directions with:
    """Singular directions of W_OV and W_down read as tokens, with the share of energy of each."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
        token_classes="<results>/token_classes/{model}.parquet",
    output:
        found="<results>/singular_directions/{model}.parquet",
        table=shown("<results>/singular_directions/{model}.csv", "telling directions"),
        figure=shown("<results>/singular_directions/{model}.png", "figure"),
    params:
        options=options("singular_directions"),


rule all_singular_directions:
    """The singular directions of all models."""
    input:
        for_models("singular_directions", "<results>/singular_directions/{model}.csv"),


use rule per_model as head_circuits with:
    """What single heads do with tokens: copying, matching, attending backwards, induction; a card for every head."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
        token_classes="<results>/token_classes/{model}.parquet",
        head_composition="<results>/head_composition/{model}.parquet",
        attention_head="<results>/attention_head/{model}.csv",
        singular_directions="<results>/singular_directions/{model}.parquet",
    output:
        cards="<results>/head_circuits/{model}.jsonl",
        table=shown("<results>/head_circuits/{model}.csv", "table"),
        figure=shown("<results>/head_circuits/{model}.png", "figure"),


rule all_head_circuits:
    """The circuits of the heads of all models."""
    input:
        for_models("head_circuits", "<results>/head_circuits/{model}.csv"),
