"""Corpora, and counts of their tokens.

Required: the sources of the corpora in the configuration; <results>/checkpoints/{model}.json,
<results>/tensor_inventory/{model}.parquet.
Produces: <results>/corpus/{corpus}.parquet, .json; <results>/token_counts/{model}/{corpus}.parquet, .json, .png.
"""

from weight_atlas.workflow.paths import for_snakemake
from weight_atlas.tokens.sources import local_files as corpus_files, source_state


rule corpus:
    """Bring a corpus here, as a table of documents."""
    input:
        files=lambda wildcards: for_snakemake(corpus_files(config["corpora"][wildcards.corpus]["source"])),
    output:
        table="<results>/corpus/{corpus}.parquet",
        description=report(
            "<results>/corpus/{corpus}.json",
            caption="../report/corpus.rst",
            category="Tokens",
            labels={"corpus": "{corpus}", "type": "description"},
        ),
    log:
        "<logs>/corpus/{corpus}.log",
    benchmark:
        "<benchmarks>/corpus/{corpus}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        options=lambda wildcards: config["corpora"][wildcards.corpus],
        # Versions behind the bundled corpus; size and time of files, which an older replacement changes as well.
        code=lambda wildcards: [
            code_of("corpus")(wildcards),
            source_state(config["corpora"][wildcards.corpus]["source"]),
        ],
    script:
        "../scripts/corpus.py"


rule token_counts:
    """Exact counts of a corpus's tokens, by a model's tokenizer."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        tensor_inventory="<results>/tensor_inventory/{model}.parquet",
        text="<results>/corpus/{corpus}.parquet",
    output:
        table="<results>/token_counts/{model}/{corpus}.parquet",
        summary="<results>/token_counts/{model}/{corpus}.json",
        figure=report(
            "<results>/token_counts/{model}/{corpus}.png",
            caption="../report/token_counts.rst",
            category="Tokens",
            labels={"model": "{model}", "corpus": "{corpus}", "type": "figure"},
        ),
    log:
        "<logs>/token_counts/{model}/{corpus}.log",
    benchmark:
        "<benchmarks>/token_counts/{model}/{corpus}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=480,
    params:
        options=options("token_counts", "trust_remote_code"),
        code=code_of("token_counts"),
    script:
        "../scripts/token_counts.py"


rule corpora:
    """All corpora."""
    input:
        expand("<results>/corpus/{corpus}.parquet", corpus=config["corpora"]),


rule token_count_tables:
    """Token counts of all models on all corpora."""
    input:
        for_models("token_counts", "<results>/token_counts/{model}/{corpus}.parquet", corpus=config["corpora"]),
