"""Quantization from the weights alone: what number formats cost every matrix.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet,
<results>/value_histogram/{model}.parquet.
Produces: <results>/quantization_sensitivity/{model}.parquet with tables by matrix, scheme, layer and channel, and
figures.
"""

shown = shown_under("Quantization")


use rule per_model as quantization_sensitivity with:
    """What every quantization scheme costs every matrix, from the weights alone."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
        histograms="<results>/value_histogram/{model}.parquet",
    output:
        table="<results>/quantization_sensitivity/{model}.parquet",
        tensors=shown("<results>/quantization_sensitivity/{model}.csv", "table by matrix"),
        of_schemes=shown("<results>/quantization_sensitivity/{model}/schemes.csv", "table by scheme"),
        of_layers="<results>/quantization_sensitivity/{model}/layers.csv",
        of_channels=shown("<results>/quantization_sensitivity/{model}/channels.csv", "outlier channels"),
        schemes_figure=shown("<results>/quantization_sensitivity/{model}/schemes.png", "schemes"),
        figure=shown("<results>/quantization_sensitivity/{model}.png", "by layer and role"),
        channels_figure=shown("<results>/quantization_sensitivity/{model}/channels.png", "outlier channels"),
    pathvars:
        step="quantization_sensitivity",
    threads: 4
    params:
        **step("quantization_sensitivity"),
        options=options("quantization_sensitivity"),


rule quantization_sensitivities:
    """What quantization costs the weights of all models."""
    input:
        for_models("quantization_sensitivity", "<results>/quantization_sensitivity/{model}.parquet"),
