"""What a scan can look at: methods, the analyses of the workflow behind each, and the tables that are shown of them."""

from collections.abc import Iterable
from typing import NamedTuple

from weight_atlas.errors import unknown_name
from weight_atlas.settings.analyses import ANALYSES

# By the names that people type; all of them read the weights alone.
METHODS: dict[str, tuple[str, ...]] = {
    "basic_stats": ("weight_statistics",),
    "spectral": ("effective_rank", "heavy_tail"),
    "quantization": ("quantization_sensitivity",),
    "sparsity": ("sparsity",),
    "channels": ("weight_profile",),
    "embeddings": ("embedding_geometry", "untrained_rows"),
    "heads": ("attention_head", "head_similarity"),
    "screening": ("super_weight_screening",),
}
ALSO_CALLED = {"statistics": "basic_stats", "ranks": "spectral", "tails": "spectral", "super_weights": "screening"}
ALL = "all"
DEFAULT = ("basic_stats", "spectral")
# Analyses whose results have no table called {analysis}/{model}.csv.
_ELSEWHERE = {
    "neuron_effects": "neuron_effects/{model}/neurons.csv",
    "super_weight_cards": "super_weight_cards/{model}/super_weights.csv",
}
_BY_MORE = ("token_counts", "quantization_recipe", "recipe_perplexity", "spectra_report")


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


def analyses_of(methods: Iterable[str]) -> list[str]:
    """The analyses of methods, each once, in the order of a page; a method may be an analysis itself.

    AtlasError for a name that is neither, with the nearest one.
    """
    wanted: set[str] = set()
    for method in methods:
        name = ALSO_CALLED.get(method, method).replace("-", "_")
        if name == ALL:
            wanted |= {each for analyses in METHODS.values() for each in analyses}
        elif name in METHODS:
            wanted |= {*METHODS[name]}
        elif name in ANALYSES and name not in _BY_MORE:
            wanted.add(name)
        else:
            known = [*METHODS, ALL, *(each for each in ANALYSES if each not in _BY_MORE)]
            raise unknown_name("method", method, known, "--methods")
    return [name for name in ANALYSES if name in wanted]


def product_of(analysis: str, model: str) -> str:
    """The table of an analysis below the results, which asking for makes all that the analysis makes."""
    return _ELSEWHERE.get(analysis, "{analysis}/{model}.csv").format(analysis=analysis, model=model)
