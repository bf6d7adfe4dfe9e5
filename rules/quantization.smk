"""Quantization from the weights alone: what number formats cost every matrix.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet,
<results>/value_histogram/{model}.parquet.
and for recipes <results>/corpus/{corpus}.parquet and <results>/super_weights/{model}.json.
Produces: <results>/quantization_sensitivity/{model}.parquet with tables by matrix, scheme, layer and channel, and
figures; <results>/input_second_moments/{model}.parquet and .gguf;
<results>/quantization_recipe/{model}/{recipe}.csv with the files that the tool reads;
<results>/recipe_perplexity/{model}/{recipe}.csv.
"""


wildcard_constraints:
    recipe="|".join(map(re.escape, config["recipes"])) or "none",


RECIPE = "<results>/quantization_recipe/{model}/{recipe}.csv"

shown = shown_under("Quantization")


use rule per_model as quantization_sensitivity with:
    """What every quantization scheme costs every matrix, from the weights alone."""
    input:
        unpack(from_stream("errors", "channels")),
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
    threads: 4
    params:
        options=options("quantization_sensitivity"),


rule quantization_sensitivities:
    """What quantization costs the weights of all models."""
    input:
        for_models("quantization_sensitivity", "<results>/quantization_sensitivity/{model}.parquet"),


use rule per_model_on_gpu as input_second_moments with:
    """Second moment of each input channel of every matrix, over windows of text; also as llama.cpp's imatrix."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        text=corpus_of("input_second_moments"),
    output:
        table="<results>/input_second_moments/{model}.parquet",
        imatrix="<results>/input_second_moments/{model}.gguf",
    params:
        options=options("input_second_moments", "dtype", "trust_remote_code"),


use rule per_job as quantization_recipe with:
    """For a size, the types of all parts of a model with the least error, and the files that the tool reads."""
    input:
        unpack(spared_weights),
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
        moments="<results>/input_second_moments/{model}.parquet",
    output:
        table=shown("<results>/quantization_recipe/{model}/{recipe}.csv", "table"),
        summary="<results>/quantization_recipe/{model}/{recipe}.json",
        figure=shown("<results>/quantization_recipe/{model}/{recipe}.png", "types by layer"),
        files=directory("<results>/quantization_recipe/{model}/{recipe}.files"),
    pathvars:
        job="<step>/{model}/{recipe}",
    threads: 4
    params:
        options=lambda wildcards: config["recipes"][wildcards.recipe],


rule quantization_recipes:
    """The recipes of all models."""
    input:
        for_models("quantization_recipe", RECIPE, recipe=config["recipes"]),


use rule per_job_on_gpu as recipe_perplexity with:
    """Perplexity of a model rounded as a recipe says, beside single types of that size and the model as it is."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
        recipe="<results>/quantization_recipe/{model}/{recipe}.csv",
        summary="<results>/quantization_recipe/{model}/{recipe}.json",
        text=corpus_of("recipe_perplexity"),
    output:
        table=shown("<results>/recipe_perplexity/{model}/{recipe}.csv", "table"),
        figure=shown("<results>/recipe_perplexity/{model}/{recipe}.png", "figure"),
    pathvars:
        job="<step>/{model}/{recipe}",
    threads: 4
    params:
        options=options("recipe_perplexity", "dtype", "trust_remote_code"),


rule recipe_perplexities:
    """Perplexity of all models under the recipes."""
    input:
        for_models("recipe_perplexity", "<results>/recipe_perplexity/{model}/{recipe}.csv", recipe=config["recipes"]),
