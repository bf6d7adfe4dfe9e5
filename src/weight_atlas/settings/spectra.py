"""Settings of spectra."""

from typing import Annotated

from pydantic import Field

from weight_atlas.settings.base import WHOLE, Distinct, Natural, Settings, Several, Share, Text

Head = Annotated[str, Field(pattern="^(-?[0-9]+|first|middle|last):[0-9]+$")]
SOME_MATRICES = ["W_down:first", "W_down:middle", "W_down:last"]
MATRIX = "each ROLE, ROLE:LAYER or ROLE:LAYER:EXPERT; LAYER is a number (negative: from the end), first, middle or last"


class SingularValues(Settings):
    """Full spectrum of every weight matrix."""

    parts: Annotated[int, Field(ge=1, le=1000), WHOLE] = Field(
        2, description="Parts that the work is cut into, to spread over cores, GPUs and cluster jobs."
    )


class EffectiveRank(Settings):
    """Rank measures of every matrix."""

    phases: Several = Field(3, description="Phases that the layers are cut into (early, middle, late).")


class AttentionKernel(Settings):
    """Spectra of the kernels W_Q^T W_K and W_O W_V of every attention head."""

    fold_norm: bool = Field(
        False, description="Fold the gain of the norm before the attention into the weights that read it."
    )
    scaled: bool = Field(False, description="Divide W_Q^T W_K by the square root of head_dim, as the scores are.")


class AttentionHead(Settings):
    """Tables and figures of attention heads."""

    heads: Distinct[Head] = Field(
        ["middle:0"],
        description="Heads to look at closely, each LAYER:HEAD; LAYER is a number (negative: from the end), first, "
        "middle or last.",
    )


class Tails(Settings):
    """Which eigenvalues a power law is fitted to, and how it is judged."""

    min_tail: Several = Field(10, description="Fewest eigenvalues that a tail may have.")
    min_tail_share: Share = Field(0.1, description="Smallest share of the eigenvalues that a tail may have.")
    threshold: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="Eigenvalues up to this are left out; null: those below the rounding floor of the stored type.",
    )
    bootstrap: Natural = Field(
        50, description="Samples for the p-value of a power law; 0: none, for models with thousands of experts."
    )


class HeavyTail(Tails):
    """Power law, random bulk and norms of every spectrum."""

    matrices: Distinct[Text] = Field(SOME_MATRICES, description=f"Matrices whose spectra are drawn, {MATRIX}.")


class SpectrumView(Settings):
    """Close views of single weight matrices."""

    matrices: Distinct[Text] = Field(SOME_MATRICES, description=f"Matrices to look at, {MATRIX}.")
