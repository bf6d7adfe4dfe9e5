"""Distributions of weights: exact histograms of values, and what follows from them.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet.
Produces: <results>/value_histogram/{model}.parquet, <results>/weight_profile/{model}.parquet, <results>/weight_statistics/{model}.csv and
<results>/weight_cdf/{model}.csv with their figures and views.
"""

shown = shown_under("Distributions")


use rule per_model as value_histogram with:
    """The exact distribution of the values of every tensor and the profile of every matrix, from one reading."""
    input:
        unpack(from_stream("histograms", "profiles")),
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table="<results>/value_histogram/{model}.parquet",
        profile="<results>/weight_profile/{model}.parquet",
        left_out=shown("<results>/value_histogram/{model}/left_out.csv", "tensors without a histogram"),
    threads: 4


rule value_histograms:
    """The value histograms of all models."""
    input:
        expand("<results>/value_histogram/{model}.parquet", model=config["models"]),


use rule per_model as weight_statistics with:
    """Statistics of the values of every tensor, by tensor, role and layer, and their cumulative distributions."""
    input:
        histograms="<results>/value_histogram/{model}.parquet",
    output:
        table=shown("<results>/weight_statistics/{model}.csv", "table"),
        of_roles=shown("<results>/weight_statistics/{model}/roles.csv", "table by role"),
        of_layers="<results>/weight_statistics/{model}/layers.csv",
        stored=shown("<results>/weight_statistics/{model}/stored.csv", "fused and stacked tensors as stored"),
        trends=shown("<results>/weight_statistics/{model}/trends.csv", "trends with depth"),
        densities=shown("<results>/weight_statistics/{model}/densities.png", "densities by role"),
        figure=shown("<results>/weight_statistics/{model}.png", "figure"),
        kurtosis=shown("<results>/weight_statistics/{model}/kurtosis.png", "kurtosis by layer"),
        views=shown("<results>/weight_statistics/{model}/tensors.png", "chosen tensors"),
        cdf=shown("<results>/weight_cdf/{model}.csv", "table"),
        cdf_figure=shown("<results>/weight_cdf/{model}.png", "figure"),
    params:
        options=options("weight_statistics"),


rule weight_statistic_tables:
    """The weight statistics of all models."""
    input:
        for_models("weight_statistics", "<results>/weight_statistics/{model}.csv"),


rule weight_cdfs:
    """The cumulative distributions of all models."""
    input:
        for_models("weight_cdf", "<results>/weight_cdf/{model}.csv"),


use rule per_model as untrained_rows with:
    """Rows of embeddings that training never moved: tokens that the model does not know."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table=shown("<results>/untrained_rows/{model}.csv", "rows"),
        matrices=shown("<results>/untrained_rows/{model}/matrices.csv", "by matrix"),
        figure=shown("<results>/untrained_rows/{model}.png", "norms of rows"),
    params:
        options=options("untrained_rows", "trust_remote_code"),


rule untrained_row_tables:
    """The rows without training of all models."""
    input:
        for_models("untrained_rows", "<results>/untrained_rows/{model}.csv"),


use rule per_model as weight_profile with:
    """Rows and columns of every matrix: variances, norms, channels that stand out, heat maps and windows."""
    input:
        unpack(from_stream("window_values")),
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
        profile="<results>/weight_profile/{model}.parquet",
    output:
        table=shown("<results>/weight_profile/{model}.csv", "table"),
        channels=shown("<results>/weight_profile/{model}/channels.csv", "channels that stand out"),
        figure=shown("<results>/weight_profile/{model}.png", "variance of rows"),
        norms=shown("<results>/weight_profile/{model}/norms.png", "norms of rows and columns"),
        maps=shown("<results>/weight_profile/{model}/maps.png", "heat maps"),
        zooms=shown("<results>/weight_profile/{model}/windows.png", "windows"),
    params:
        options=options("weight_profile"),


rule weight_profiles:
    """The rows and columns of the matrices of all models."""
    input:
        for_models("weight_profile", "<results>/weight_profile/{model}.csv"),


use rule per_model as sparsity with:
    """Zeros, dead units, 2:4 patterns, repeated rows, and what magnitude pruning keeps."""
    input:
        unpack(from_stream("structures")),
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
        histograms="<results>/value_histogram/{model}.parquet",
        profile="<results>/weight_profile/{model}.parquet",
    output:
        table=shown("<results>/sparsity/{model}.csv", "table"),
        curve="<results>/sparsity/{model}/curve.csv",
        experts=shown("<results>/sparsity/{model}/experts.csv", "experts of zeros"),
        figure=shown("<results>/sparsity/{model}.png", "figure"),
    params:
        options=options("sparsity"),


rule sparsity_tables:
    """The sparsity of all models."""
    input:
        for_models("sparsity", "<results>/sparsity/{model}.csv"),
