"""What norms compute and where they are: the words that family tables use for both."""

# x: the input of the norm. w: the gain that is stored.
NORMS: dict[str, str] = {
    "RMSNorm": "w * x / rms(x)",
    "RMSNorm with gain 1 + w": "(1 + w) * x / rms(x)",
    "RMSNorm without parameters": "x / rms(x)",
    "LayerNorm": "w * (x - mean(x)) / std(x), and a bias where one is stored",
    "LayerNorm with gain 1 + w": "(1 + w) * (x - mean(x)) / std(x), and a bias where one is stored",
    "LayerNorm without shift": "w * (x - mean(x)) / std(x)",
    "LayerNorm without parameters": "(x - mean(x)) / std(x)",
}
NORM_PLACES: dict[str, str] = {
    "final": "of the residual stream, before the unembedding",
    "pre_attention": "of what attention, or the mixer in its place, reads; a feed-forward part may have no other",
    "post_attention": "of what attention, or the mixer in its place, adds to the residual stream",
    "pre_mlp": "of what the feed-forward part reads",
    "post_mlp": "of what the feed-forward part adds to the residual stream",
    "post_dense": "of a dense feed-forward part, before experts beside it are added",
    "post_experts": "of all experts together, shared ones too; a dense feed-forward part does not pass it",
    "transform": "in a head that transforms the residual stream",
    "indexer": "in the part that selects what attention sees",
    "mtp": "in a layer that predicts further tokens",
}
FINAL_NORMS: dict[str, str] = {
    "none": "the unembedding reads the residual stream as it is, as where norms follow each addition to it",
    "without parameters": "there is a norm, but it has nothing to store",
}


def gain_offset(norm: str) -> float:
    """What a model adds to the stored gain of a norm of this kind: 1 where it is stored as 1 + w."""
    return 1.0 if "1 + w" in norm else 0.0


def centres(norm: str) -> bool:
    """Whether a norm of this kind subtracts the mean."""
    return norm.startswith("LayerNorm")
