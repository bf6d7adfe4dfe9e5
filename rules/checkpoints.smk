"""Checkpoints: bring them here, and index their tensors.

Required: the sources of the models in the configuration.
Produces: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet,
<results>/architecture_summary/{model}.csv with its tables and figures; <results>/run_config.json, which says what all of
it was made with, of each model by <results>/run_config/{model}.json.
"""

from weight_atlas.checkpoint.local_files import local_files, local_state
from weight_atlas.settings.models import CheckpointSpec
from weight_atlas.workflow import run_config

shown = shown_under("Architecture")


use rule per_model as fetch_checkpoint with:
    """Bring a model's checkpoint here, check it, and write its manifest."""
    input:
        files=lambda wildcards: own_files(local_files(config["models"][wildcards.model]["source"])),
    output:
        manifest="<results>/checkpoints/{model}.json",
    threads: 4
    params:
        # Being older than the manifest does not show that a file was replaced; its own state does.
        **step("fetch_checkpoint", lambda wildcards: local_state(config["models"][wildcards.model]["source"])),
        options=options("fetch_checkpoint", *CheckpointSpec.model_fields),


rule checkpoints:
    """The manifests of all models."""
    input:
        expand("<results>/checkpoints/{model}.json", model=config["models"]),


use rule per_job as run_configs with:
    """What a whole run was made with: its settings, and the record of every model."""
    input:
        models=expand("<results>/run_config/{model}.json", model=config["models"]),
    output:
        record="<results>/run_config.json",
    params:
        options={"configuration": run_config.of_run(config)},


use rule per_model as tensor_inventory with:
    """Every tensor of a checkpoint with its role, layer, expert, heads, shape and stored type."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
    output:
        table="<results>/tensor_inventory/{model}.parquet",
    params:
        options=options("tensor_inventory", "allow_other"),


rule tensor_inventories:
    """The tensor inventories of all models."""
    input:
        expand("<results>/tensor_inventory/{model}.parquet", model=config["models"]),


use rule per_model as architecture_summary with:
    """What a model is made of: configuration, parameters and bytes by part, layer, role and stored type."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table=shown("<results>/architecture_summary/{model}.csv", "configuration"),
        parameters=shown("<results>/architecture_summary/{model}/parameters.csv", "parameters by part"),
        tensors=shown("<results>/architecture_summary/{model}/tensors.csv", "tensors"),
        summary="<results>/architecture_summary/{model}.json",
        figure=shown("<results>/architecture_summary/{model}.png", "size by layer"),
        shares=shown("<results>/architecture_summary/{model}/shares.png", "shares"),


rule architecture_summaries:
    """The architecture summaries of all models that ask for them."""
    input:
        for_models("architecture_summary", "<results>/architecture_summary/{model}.csv"),
