"""Corpora, tokenizers without a model, and counts of tokens.

Required: the sources of the corpora and tokenizers in the configuration; <results>/checkpoints/{model}.json,
<results>/tensor_inventory/{model}.parquet.
Produces: <results>/corpus/{corpus}.parquet, .json; <results>/fetch_tokenizer/{tokenizer}.json;
<results>/token_counts_part/{model}/{corpus}/{part}.sizes.parquet, .tokens.parquet of large local corpora;
<results>/token_counts/{model}/{corpus}.parquet, .tokens.parquet, .groups.csv, .npy, .json, .png, where
{model} is a model or a tokenizer.
"""

from weight_atlas.checkpoint.local_files import tokenizer_files
from weight_atlas.file_states import states_of
from weight_atlas.tokens.sources import local_files as corpus_files, source_state

shown = shown_under("Tokens")


use rule per_job as corpus with:
    """Bring a corpus here, as a table of documents."""
    input:
        files=lambda wildcards: own_files(corpus_files(config["corpora"][wildcards.corpus]["source"])),
    output:
        table="<results>/corpus/{corpus}.parquet",
        description=shown("<results>/corpus/{corpus}.json", "description"),
    pathvars:
        job="<step>/{corpus}",
    params:
        # Versions behind the bundled corpus; the state of files, which an older replacement changes as well.
        **step("corpus", lambda wildcards: source_state(config["corpora"][wildcards.corpus]["source"])),
        options=lambda wildcards: {
            **config["corpora"][wildcards.corpus],
            "beginning": bool(parts_of(wildcards.corpus)),
        },


use rule per_job as fetch_tokenizer with:
    """Bring a tokenizer without a model here, and write its manifest."""
    input:
        files=lambda wildcards: own_files(tokenizer_files(config["tokenizers"][wildcards.tokenizer]["source"])),
    output:
        manifest="<results>/fetch_tokenizer/{tokenizer}.json",
    pathvars:
        job="<step>/{tokenizer}",
    params:
        **step(
            "fetch_tokenizer",
            lambda wildcards: states_of(tokenizer_files(config["tokenizers"][wildcards.tokenizer]["source"])),
        ),
        options=lambda wildcards: config["tokenizers"][wildcards.tokenizer],


use rule per_job as token_counts_part with:
    """Exact counts of the tokens of one part of a corpus, straight from its files."""
    input:
        unpack(tokenizer_of),
        files=lambda wildcards: own_files(share.path for share in shares_of(wildcards)),
    output:
        group_sizes="<results>/token_counts_part/{model}/{corpus}/{part}.sizes.parquet",
        group_tokens="<results>/token_counts_part/{model}/{corpus}/{part}.tokens.parquet",
    pathvars:
        job="<step>/{model}/{corpus}/{part}",
    wildcard_constraints:
        model="|".join(map(re.escape, [*config["models"], *config["tokenizers"]])),
    params:
        **step("token_counts_part", lambda wildcards: states_of(share.path for share in shares_of(wildcards))),
        options=lambda wildcards: {
            **config["corpora"][wildcards.corpus],
            "trust_remote_code": entry_of(wildcards.model)["trust_remote_code"],
            "shares": list(map(str, shares_of(wildcards))),
        },


use rule per_job as token_counts with:
    """Exact counts of a corpus's tokens, by the tokenizer of a model or one alone."""
    input:
        unpack(tokenizer_of),
        unpack(text_of),
    output:
        table="<results>/token_counts/{model}/{corpus}.parquet",
        array="<results>/token_counts/{model}/{corpus}.npy",
        groups=shown("<results>/token_counts/{model}/{corpus}.groups.csv", "groups"),
        group_tokens="<results>/token_counts/{model}/{corpus}.tokens.parquet",
        summary="<results>/token_counts/{model}/{corpus}.json",
        figure=shown("<results>/token_counts/{model}/{corpus}.png", "figure"),
    pathvars:
        job="<step>/{model}/{corpus}",
    wildcard_constraints:
        model="|".join(map(re.escape, [*config["models"], *config["tokenizers"]])),
    threads: 4
    params:
        options=lambda wildcards: {"trust_remote_code": entry_of(wildcards.model)["trust_remote_code"]},


rule corpora:
    """All corpora."""
    input:
        expand("<results>/corpus/{corpus}.parquet", corpus=config["corpora"]),


rule tokenizers:
    """Token counts of all tokenizers without a model, on all corpora."""
    input:
        expand(
            "<results>/token_counts/{tokenizer}/{corpus}.parquet",
            # Those that only a vector of token weights names are called like it, and count for it.
            tokenizer=[name for name in config["tokenizers"] if name not in config["token_weights"]],
            corpus=config["corpora"],
        ),


rule token_count_tables:
    """Token counts of all models and tokenizers on all corpora."""
    input:
        for_models("token_counts", "<results>/token_counts/{model}/{corpus}.parquet", corpus=config["corpora"]),
        rules.tokenizers.input,
