"""Settings of circuits read from the weights."""

from pydantic import Field

from weight_atlas.settings.base import Count, Settings


class HeadComposition(Settings):
    """How much attention heads read of what heads of earlier layers write."""

    strongest: Count = Field(200, description="Pairs of heads in the short table; all are in the parquet file.")
