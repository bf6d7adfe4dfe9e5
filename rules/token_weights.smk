"""Learned token weights: their distribution, what it says beside how often tokens occur, and its course in training.

Required: the files that `token_weights` names in the configuration; of a model's rows <results>/checkpoints/{model}.json
and <results>/tensor_inventory/{model}.parquet; <results>/token_classes/{model}.parquet;
<results>/token_counts/{model}/{corpus}.npy where counts are those of a corpus.
Produces: <results>/fetch_vector/{vector}.json of files on the hub; <results>/token_weights/{vector}.parquet, .csv,
.json, .png, and per vector token_weight_frequency and token_weight_evolution; <results>/vector_page/{vector}.md,
<results>/atlas/vectors/{vector}.html.
"""

from weight_atlas.settings.token_weights import Counted, Evolution, Vector, VectorFile

MATRIX_FILES = {
    "checkpoint": "<results>/checkpoints/{model}.json",
    "inventory": "<results>/tensor_inventory/{model}.parquet",
}
COUNT_FILES = {
    "counted": "<results>/token_counts/{model}/{corpus}.npy",
    "groups": "<results>/token_counts/{model}/{corpus}.tokens.parquet",
}
FETCHED = "<results>/fetch_vector/{vector}.json"
TEXTS = ("<results>/token_classes/{model}.parquet", "<results>/fetch_tokenizer/{tokenizer}.json")


shown = shown_under("Token weights")


use rule per_job as fetch_vector with:
    """Bring a file of token weights from the hub here, and write its manifest."""
    input:
        vector_files(vectors.source_file),
    output:
        manifest=FETCHED,
    pathvars:
        job="<step>/{vector}",
    params:
        options=vector_options(VectorFile),


use rule per_job as token_weights with:
    """Learned token weights: their distribution, what is wrong with it, and the tokens at its ends."""
    input:
        unpack(lambda wildcards: vectors.origin(wildcards.vector, MATRIX_FILES)),
        unpack(lambda wildcards: vectors.fetched(wildcards.vector, FETCHED)),
        unpack(lambda wildcards: vectors.texts(wildcards.vector, *TEXTS)),
        vector_files(vectors.files),
    output:
        tokens="<results>/token_weights/{vector}.parquet",
        summary=shown("<results>/token_weights/{vector}.json", "summary"),
        table=shown("<results>/token_weights/{vector}.csv", "statistics"),
        diagnoses=shown("<results>/token_weights/{vector}/diagnoses.csv", "diagnoses"),
        extremes=shown("<results>/token_weights/{vector}/tokens.csv", "highest and lowest"),
        best_of_columns="<results>/token_weights/{vector}/columns.csv",
        pruning="<results>/token_weights/{vector}/pruning.csv",
        pruned="<results>/token_weights/{vector}/pruned.npy",
        figure=shown("<results>/token_weights/{vector}.png", "cumulative distribution"),
        histogram=shown("<results>/token_weights/{vector}/histogram.png", "histogram"),
    pathvars:
        job="<step>/{vector}",
    params:
        **step("token_weights", vector_states(vectors.files)),
        options=vector_options(Vector),


use rule per_job as token_weight_frequency with:
    """Token weights beside how often the tokens occur: correlations, outliers, recommendations, masks."""
    input:
        unpack(lambda wildcards: vectors.counts(wildcards.vector, COUNT_FILES)),
        vector_files(vectors.counts_file),
        tokens="<results>/token_weights/{vector}.parquet",
    output:
        table=shown("<results>/token_weight_frequency/{vector}.csv", "correlations"),
        seen=shown("<results>/token_weight_frequency/{vector}/seen.csv", "seen and unseen tokens"),
        bins=shown("<results>/token_weight_frequency/{vector}/bins.csv", "weights by count"),
        outlier_tokens=shown("<results>/token_weight_frequency/{vector}/outliers.csv", "high weight, low count"),
        divergence="<results>/token_weight_frequency/{vector}/divergence.csv",
        recommendations=shown("<results>/token_weight_frequency/{vector}/recommendations.csv", "recommendations"),
        languages=shown("<results>/token_weight_frequency/{vector}/languages.csv", "highest by language"),
        pruning=shown("<results>/token_weight_frequency/{vector}/pruning.csv", "pruning"),
        summary=shown("<results>/token_weight_frequency/{vector}.json", "summary"),
        mask="<results>/token_weight_frequency/{vector}/mask.npy",
        figure=shown("<results>/token_weight_frequency/{vector}.png", "six panels"),
        cumulative=shown("<results>/token_weight_frequency/{vector}/cdfs.png", "counts and weights"),
    pathvars:
        job="<step>/{vector}",
    params:
        **step("token_weight_frequency", vector_states(vectors.counts_file)),
        options=vector_options(Counted),


use rule per_job as token_weight_evolution with:
    """Token weights over the checkpoints of a training run."""
    input:
        vector_files(vectors.checkpoints),
        tokens="<results>/token_weights/{vector}.parquet",
    output:
        table=shown("<results>/token_weight_evolution/{vector}.csv", "table"),
        moved_tokens=shown("<results>/token_weight_evolution/{vector}/tokens.csv", "tokens that moved most"),
        summary=shown("<results>/token_weight_evolution/{vector}.json", "summary"),
        figure=shown("<results>/token_weight_evolution/{vector}.png", "figure"),
    pathvars:
        job="<step>/{vector}",
    params:
        **step("token_weight_evolution", vector_states(vectors.checkpoints)),
        options=vector_options(Evolution),


use rule per_job as vector_page with:
    """The pages of a vector of token weights: findings, figures and tables of all its products."""
    input:
        products=lambda wildcards: products_of_vector(wildcards.vector),
        captions=lambda wildcards: list(map(caption_file, vectors.products_of(wildcards.vector))),
    output:
        page=shown("<results>/vector_page/{vector}.md", "page"),
        browser="<results>/atlas/vectors/{vector}.html",
        data=directory("<results>/atlas/vectors/{vector}"),
        summary="<results>/vector_page/{vector}.json",
    pathvars:
        job="<step>/{vector}",


rule vector_pages:
    """The pages of all vectors of token weights."""
    input:
        expand(written_by("vector_page"), vector=vectors.names),
        [products_of_vector(vector) for vector in vectors.names],
