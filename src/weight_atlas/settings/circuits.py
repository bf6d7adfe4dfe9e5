"""Settings of circuits read from the weights."""

from typing import Annotated

from pydantic import Field

from weight_atlas.settings.base import WHOLE, Count, Settings


class HeadComposition(Settings):
    """How much attention heads read of what heads of earlier layers write."""

    strongest: Count = Field(200, description="Pairs of heads in the short table; all are in the parquet file.")


class SingularDirections(Settings):
    """Singular directions of W_OV and W_down read through the unembedding."""

    directions: Count = Field(4, description="Directions of every head and feed-forward part, the first ones.")
    tokens: Annotated[int, Field(ge=1, le=200), WHOLE] = Field(
        10, description="Strongest tokens to list of each direction, up and down."
    )
    shown: Count = Field(20, description="Directions of each kind in the table, those of largest kurtosis.")
