"""Settings of the geometry of vectors: embeddings, projections, heads."""

from typing import Annotated, Literal

from pydantic import Field

from weight_atlas.settings.base import Count, Distinct, Natural, Settings, Share, Text
from weight_atlas.settings.spectra import MATRIX

LAYER = "each a number (negative: from the end), first, middle or last"
Layer = Annotated[str, Field(pattern="^(-?[0-9]+|first|middle|last)$")]


class EmbeddingGeometry(Settings):
    """Learned positions, and token embeddings as clouds of vectors."""

    dimensions: Distinct[int] = Field(
        [],
        description="Dimensions of the learned positions to draw beside those of lowest, median and highest variance.",
    )
    shown: Count = Field(2, description="Dimensions of lowest, of median and of highest variance that are drawn.")
    tokens: Natural = Field(
        16,
        description="Tokens of highest norm, of lowest norm and spread over the ids whose neighbours are looked for.",
    )
    token_ids: Distinct[Natural] = Field([], description="More tokens whose neighbours are looked for.")
    neighbours: Natural = Field(8, description="Nearest neighbours of each of these tokens; 0: none are looked for.")


class ProjectionPca(Settings):
    """Principal components of projections and of their heads."""

    roles: Annotated[Distinct[str], Field(min_length=1)] | None = Field(
        ["W_Q", "W_K", "W_V", "W_O"], description="Roles whose matrices are looked at; null: all that have matrices."
    )
    samples: Literal["outputs", "inputs"] = Field(
        "outputs",
        description="What the samples are: `outputs`, the rows of the matrix (out, in), each a vector over the inputs; "
        "or `inputs`, its columns.",
    )
    standardise: bool = Field(
        False, description="Divide each feature by its standard deviation, beside centring, which is always done."
    )
    by_head: bool = Field(True, description="Also look at each head of a matrix by itself.")
    matrices: list[Text] = Field(
        ["W_QKV:first", "W_QKV:last", "W_Q:first", "W_Q:last", "W_V:first", "W_V:last"],
        description=f"Matrices whose components are drawn, {MATRIX}. W_QKV: queries, keys and values fused.",
    )


class HeadSimilarity(Settings):
    """Attention heads compared with each other, whatever basis each uses."""

    least_cosine: Share = Field(
        0.2, description="Cosine of the kernels that heads of one cluster have: the tree is cut at sqrt(2 - 2 cosine)."
    )
    layers: list[Layer] = Field(["first", "middle", "last"], description=f"Layers whose heads are drawn, {LAYER}.")
    role: Literal["W_Q", "W_K", "W_V"] = Field("W_Q", description="Projection whose heads are drawn as heat maps.")
