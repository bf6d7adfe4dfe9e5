"""The tables of the worst that a scan shows: which numbers rank, and what stands beside them."""

from typing import NamedTuple


class Ranked(NamedTuple):
    """A table of the worst: a metric of the registry, which ranks, and the columns that stand beside it."""

    metric: str
    beside: tuple[str, ...] = ()


# In the order in which they are shown.
RANKED = (
    Ranked("weight_statistics.kurtosis", ("absmax", "std")),
    Ranked("weight_statistics.outlier_share", ("dynamic_range",)),
    Ranked("effective_rank.condition", ("stable_rank", "erank", "r")),
    Ranked("effective_rank.erank_relative", ("erank", "r", "n90")),
    Ranked("heavy_tail.alpha", ("D", "reading")),
    Ranked("quantization_sensitivity.tensors.worst_loss_db", ("worst_scheme", "ready_scheme")),
    Ranked("sparsity.zeros_share", ("below_1e_2", "dead_rows", "dead_cols")),
    Ranked("untrained_rows.matrices.untrained", ("rows",)),
    Ranked("embedding_geometry.common_share", ("mean_cosine", "isoscore")),
    Ranked("attention_head.erank_relative", ("circuit", "head", "label")),
    Ranked("head_similarity.nearest_cosine", ("circuit", "head", "label")),
    Ranked("super_weight_screening.size", ("row", "column", "row_score_ratio")),
    Ranked("super_weight_verification.ratio", ("row", "column", "verdict", "severity")),
    Ranked("ablation_perplexity.ratio", ("ablation", "variant", "perplexity", "severity")),
)
