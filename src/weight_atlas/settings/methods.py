"""What a scan can look at: methods by the names that people type, and the analyses of the workflow behind each."""

from collections.abc import Iterable

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
# What has a table for each corpus or recipe, or a page alone.
NOT_ONE_TABLE = ("token_counts", "quantization_recipe", "recipe_perplexity", "spectra_report")


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
        elif name in ANALYSES and name not in NOT_ONE_TABLE:
            wanted.add(name)
        else:
            known = [*METHODS, ALL, *(each for each in ANALYSES if each not in NOT_ONE_TABLE)]
            raise unknown_name("method", method, known, "--methods")
    return [name for name in ANALYSES if name in wanted]
