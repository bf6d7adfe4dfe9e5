"""Distributions of weights: exact histograms of values, and what follows from them.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet.
Produces: <results>/value_histogram/{model}.parquet, <results>/weight_statistics/{model}.csv and
<results>/weight_cdf/{model}.csv with their figures and views.
"""


rule value_histogram:
    """The exact distribution of the values of every tensor, from one reading of the weights."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table="<results>/value_histogram/{model}.parquet",
        left_out=report(
            "<results>/value_histogram/{model}/left_out.csv",
            caption="../report/value_histogram.rst",
            category="Distributions",
            labels={"model": "{model}", "type": "tensors without a histogram"},
        ),
    log:
        "<logs>/value_histogram/{model}.log",
    benchmark:
        "<benchmarks>/value_histogram/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        code=code_of("value_histogram"),
    script:
        "../scripts/value_histogram.py"


rule value_histograms:
    """The value histograms of all models."""
    input:
        expand("<results>/value_histogram/{model}.parquet", model=config["models"]),


rule weight_statistics:
    """Statistics of the values of every tensor, by tensor, role and layer."""
    input:
        histograms="<results>/value_histogram/{model}.parquet",
    output:
        table=report(
            "<results>/weight_statistics/{model}.csv",
            caption="../report/weight_statistics.rst",
            category="Distributions",
            labels={"model": "{model}", "type": "table"},
        ),
        of_roles=report(
            "<results>/weight_statistics/{model}/roles.csv",
            caption="../report/weight_statistics.rst",
            category="Distributions",
            labels={"model": "{model}", "type": "table by role"},
        ),
        of_layers="<results>/weight_statistics/{model}/layers.csv",
        densities=report(
            "<results>/weight_statistics/{model}/densities.png",
            caption="../report/weight_statistics.rst",
            category="Distributions",
            labels={"model": "{model}", "type": "densities by role"},
        ),
        figure=report(
            "<results>/weight_statistics/{model}.png",
            caption="../report/weight_statistics.rst",
            category="Distributions",
            labels={"model": "{model}", "type": "figure"},
        ),
        kurtosis=report(
            "<results>/weight_statistics/{model}/kurtosis.png",
            caption="../report/weight_statistics.rst",
            category="Distributions",
            labels={"model": "{model}", "type": "kurtosis by layer"},
        ),
    log:
        "<logs>/weight_statistics/{model}.log",
    benchmark:
        "<benchmarks>/weight_statistics/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        options=options("weight_statistics"),
        code=code_of("weight_statistics"),
    script:
        "../scripts/weight_statistics.py"


rule weight_statistic_tables:
    """The weight statistics of all models."""
    input:
        for_models("weight_statistics", "<results>/weight_statistics/{model}.csv"),


rule weight_cdf:
    """Cumulative distribution of the weights, by role and layer."""
    input:
        histograms="<results>/value_histogram/{model}.parquet",
    output:
        table=report(
            "<results>/weight_cdf/{model}.csv",
            caption="../report/weight_cdf.rst",
            category="Distributions",
            labels={"model": "{model}", "type": "table"},
        ),
        figure=report(
            "<results>/weight_cdf/{model}.png",
            caption="../report/weight_cdf.rst",
            category="Distributions",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/weight_cdf/{model}.log",
    benchmark:
        "<benchmarks>/weight_cdf/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("weight_cdf"),
    script:
        "../scripts/weight_cdf.py"


rule weight_cdfs:
    """The cumulative distributions of all models."""
    input:
        for_models("weight_cdf", "<results>/weight_cdf/{model}.csv"),
