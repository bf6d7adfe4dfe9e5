"""Circuits: how heads compose, from the weights alone.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet.
Produces: <results>/head_composition/{model}.parquet, .csv and .png, and {model}/layers.csv.
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
    pathvars:
        step="head_composition",
    threads: 4
    params:
        **step("head_composition"),
        options=options("head_composition"),


rule head_compositions:
    """The compositions of the heads of all models."""
    input:
        for_models("head_composition", "<results>/head_composition/{model}.csv"),
