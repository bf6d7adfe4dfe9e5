"""Checkpoints: bring them here, and index their tensors.

Required: the sources of the models in the configuration.
Produces: <results>/checkpoints/{model}.json.
"""

from weight_atlas.checkpoint.source import local_files, local_state


rule fetch_checkpoint:
    """Bring a model's checkpoint here, check it, and write its manifest."""
    input:
        files=lambda wildcards: local_files(config["models"][wildcards.model]["source"]),
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
        options=options("fetch_checkpoint", "source", "revision", "family", "key", "trust_remote_code"),
        # Being older than the manifest does not show that a file was replaced; its own size and time do.
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
