"""Corpora, and counts of their tokens.

Required: the sources of the corpora in the configuration; <results>/checkpoints/{model}.json,
<results>/tensor_inventory/{model}.parquet.
Produces: <results>/corpus/{corpus}.parquet, .json; <results>/token_counts/{model}/{corpus}.parquet, .json, .png.
"""

from weight_atlas.workflow.paths import for_snakemake
from weight_atlas.tokens.sources import local_files as corpus_files, source_state

shown = shown_under("Tokens")


use rule per_job as corpus with:
    """Bring a corpus here, as a table of documents."""
    input:
        files=lambda wildcards: for_snakemake(corpus_files(config["corpora"][wildcards.corpus]["source"])),
    output:
        table="<results>/corpus/{corpus}.parquet",
        description=shown("<results>/corpus/{corpus}.json", "description"),
    pathvars:
        job="corpus/{corpus}",
    params:
        # Versions behind the bundled corpus; size and time of files, which an older replacement changes as well.
        **step("corpus", lambda wildcards: source_state(config["corpora"][wildcards.corpus]["source"])),
        options=lambda wildcards: config["corpora"][wildcards.corpus],


use rule per_job as token_counts with:
    """Exact counts of a corpus's tokens, by a model's tokenizer."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        text="<results>/corpus/{corpus}.parquet",
    output:
        table="<results>/token_counts/{model}/{corpus}.parquet",
        summary="<results>/token_counts/{model}/{corpus}.json",
        figure=shown("<results>/token_counts/{model}/{corpus}.png", "figure"),
    pathvars:
        job="token_counts/{model}/{corpus}",
    threads: 4
    params:
        **step("token_counts"),
        options=options("token_counts", "trust_remote_code"),


rule corpora:
    """All corpora."""
    input:
        expand("<results>/corpus/{corpus}.parquet", corpus=config["corpora"]),


rule token_count_tables:
    """Token counts of all models on all corpora."""
    input:
        for_models("token_counts", "<results>/token_counts/{model}/{corpus}.parquet", corpus=config["corpora"]),
