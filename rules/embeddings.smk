"""The geometry of vectors: positions and tokens, the rows of projections, attention heads among each other.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet.
Produces: <results>/embedding_geometry/{model}.csv, <results>/projection_pca/{model}.csv and
<results>/head_similarity/{model}.csv with tables and figures beside them.
"""

shown = shown_under("Embeddings and heads")


use rule per_model as embedding_geometry with:
    """Learned positions, and token embeddings as clouds of vectors: norms, neighbours, isotropy."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table=shown("<results>/embedding_geometry/{model}.csv", "table"),
        position_table="<results>/embedding_geometry/{model}/positions.csv",
        dimension_table="<results>/embedding_geometry/{model}/dimensions.csv",
        token_norms="<results>/embedding_geometry/{model}/tokens.parquet",
        nearest_tokens=shown("<results>/embedding_geometry/{model}/neighbours.csv", "nearest tokens"),
        positions_figure=shown("<results>/embedding_geometry/{model}/positions.png", "positions"),
        figure=shown("<results>/embedding_geometry/{model}.png", "tokens"),
    params:
        options=options("embedding_geometry"),


rule embedding_geometries:
    """The geometry of the embeddings of all models."""
    input:
        for_models("embedding_geometry", "<results>/embedding_geometry/{model}.csv"),


use rule per_model as projection_pca with:
    """Principal components of every projection of some roles, and of its heads."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table=shown("<results>/projection_pca/{model}.csv", "table"),
        trends=shown("<results>/projection_pca/{model}/trends.csv", "trends with depth"),
        curves="<results>/projection_pca/{model}/curves.csv",
        scores="<results>/projection_pca/{model}/scores.csv",
        figure=shown("<results>/projection_pca/{model}.png", "by layer"),
        views=shown("<results>/projection_pca/{model}/views.png", "chosen projections"),
    params:
        options=options("projection_pca"),


rule projection_pcas:
    """The principal components of all models."""
    input:
        for_models("projection_pca", "<results>/projection_pca/{model}.csv"),


use rule per_model as head_similarity with:
    """Attention heads of a layer compared by their kernels: clusters, isolated heads, clusteredness by layer."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table=shown("<results>/head_similarity/{model}.csv", "heads"),
        by_layer=shown("<results>/head_similarity/{model}/by_layer.csv", "layers"),
        trends=shown("<results>/head_similarity/{model}/trends.csv", "trends with depth"),
        pairs="<results>/head_similarity/{model}/pairs.parquet",
        figure=shown("<results>/head_similarity/{model}.png", "clusteredness by layer"),
        trees=shown("<results>/head_similarity/{model}/trees.png", "trees of chosen layers"),
        weights=shown("<results>/head_similarity/{model}/weights.png", "weights of each head"),
    params:
        options=options("head_similarity"),


rule head_similarities:
    """The comparisons of heads of all models."""
    input:
        for_models("head_similarity", "<results>/head_similarity/{model}.csv"),
