"""Settings of the values of tensors."""

from typing import Annotated

from pydantic import Field

from weight_atlas.settings.base import Distinct, Settings


class WeightStatistics(Settings):
    """Statistics of the values of every tensor."""

    roles: Annotated[Distinct[str], Field(min_length=1)] | None = Field(
        None, description="Roles to draw the densities of, such as W_down; null: all that have matrices."
    )
