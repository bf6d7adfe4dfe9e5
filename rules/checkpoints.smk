"""Checkpoints: bring them here, and index their tensors.

Required: the sources of the models in the configuration.
Produces: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet,
<results>/architecture_summary/{model}.csv with its tables and figures.
"""

from weight_atlas.checkpoint.source import local_files, local_state
from weight_atlas.workflow.paths import for_snakemake


rule fetch_checkpoint:
    """Bring a model's checkpoint here, check it, and write its manifest."""
    input:
        files=lambda wildcards: for_snakemake(local_files(config["models"][wildcards.model]["source"])),
    output:
        manifest="<results>/checkpoints/{model}.json",
    log:
        "<logs>/fetch_checkpoint/{model}.log",
    benchmark:
        "<benchmarks>/fetch_checkpoint/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 4
    resources:
        mem_mb=1000,
        runtime=720,
    params:
        options=options(
            "fetch_checkpoint", "source", "revision", "family", "key", "prefix", "allow_other", "trust_remote_code"
        ),
        # Being older than the manifest does not show that a file was replaced; its own state does.
        code=lambda wildcards: [
            code_of("fetch_checkpoint")(wildcards),
            local_state(config["models"][wildcards.model]["source"]),
        ],
    script:
        "../scripts/fetch_checkpoint.py"


rule checkpoints:
    """The manifests of all models."""
    input:
        expand("<results>/checkpoints/{model}.json", model=config["models"]),


rule tensor_inventory:
    """Every tensor of a checkpoint with its role, layer, expert, heads, shape and stored type."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
    output:
        table="<results>/tensor_inventory/{model}.parquet",
    log:
        "<logs>/tensor_inventory/{model}.log",
    benchmark:
        "<benchmarks>/tensor_inventory/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        options=options("tensor_inventory", "allow_other"),
        code=code_of("tensor_inventory"),
    script:
        "../scripts/tensor_inventory.py"


rule tensor_inventories:
    """The tensor inventories of all models."""
    input:
        expand("<results>/tensor_inventory/{model}.parquet", model=config["models"]),


rule architecture_summary:
    """What a model is made of: configuration, parameters and bytes by part, layer, role and stored type."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table=report(
            "<results>/architecture_summary/{model}.csv",
            caption="../report/architecture_summary.rst",
            category="Architecture",
            labels={"model": "{model}", "type": "configuration"},
        ),
        parameters=report(
            "<results>/architecture_summary/{model}/parameters.csv",
            caption="../report/architecture_summary.rst",
            category="Architecture",
            labels={"model": "{model}", "type": "parameters by part"},
        ),
        summary="<results>/architecture_summary/{model}.json",
        figure=report(
            "<results>/architecture_summary/{model}.png",
            caption="../report/architecture_summary.rst",
            category="Architecture",
            labels={"model": "{model}", "type": "size by layer"},
        ),
        shares=report(
            "<results>/architecture_summary/{model}/shares.png",
            caption="../report/architecture_summary.rst",
            category="Architecture",
            labels={"model": "{model}", "type": "shares"},
        ),
    log:
        "<logs>/architecture_summary/{model}.log",
    benchmark:
        "<benchmarks>/architecture_summary/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        code=code_of("architecture_summary"),
    script:
        "../scripts/architecture_summary.py"


rule architecture_summaries:
    """The architecture summaries of all models that ask for them."""
    input:
        for_models("architecture_summary", "<results>/architecture_summary/{model}.csv"),
