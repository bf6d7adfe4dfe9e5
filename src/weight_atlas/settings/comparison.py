"""Settings of the comparison of models."""

from typing import Annotated, Literal

from pydantic import Field

from weight_atlas.settings.base import Count, Distinct, Settings, Text


class Base(Settings):
    """A model that all others are compared with."""

    base: Text = Field(description="Model that each of the others is compared with.")


class ComparisonPart(Settings):
    """How two tensors are compared."""

    subspace: Count = Field(
        16,
        description="Dimensions of the leading singular subspaces whose overlap is measured; at most a quarter of a "
        "matrix's smaller side.",
    )


class Compared(Settings):
    """What is made of the comparison of two models."""

    ranks: Annotated[Distinct[Count], Field(min_length=1)] = Field(
        [4, 8, 16, 32, 64, 128, 256],
        description="Ranks that a LoRA of the change might have; the error that each would leave is given.",
    )
    top: Count = Field(20, description="Tensors and tokens that are listed as the most changed.")


class Lineage(Settings):
    """Which of the models come from which."""

    models: Literal["all"] | Distinct[Text] = Field(
        [], description="Models whose kinship is told: all, or two or more names. Their spectra are needed for it."
    )


class Comparison(ComparisonPart, Compared):
    """Comparison of pairs of models."""
