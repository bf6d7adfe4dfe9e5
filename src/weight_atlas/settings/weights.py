"""Settings of the values of tensors."""

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from weight_atlas.families.roles import Role
from weight_atlas.settings.base import WHOLE, Distinct, Settings, Text
from weight_atlas.settings.spectra import MATRIX

Window = Annotated[str, Field(pattern=r"^.+@[0-9]+:[0-9]+,[0-9]+:[0-9]+$", max_length=500)]

if TYPE_CHECKING:
    RoleName: TypeAlias = str
else:
    RoleName = Literal[tuple(map(str, Role))]


class WeightStatistics(Settings):
    """Statistics of the values of every tensor."""

    roles: Annotated[Distinct[RoleName], Field(min_length=1)] | None = Field(
        None, description="Roles to draw the densities of, such as W_down; null: all that have matrices."
    )
    tensors: Distinct[Text] = Field(
        ["W_Q:first", "W_down:last"],
        description="Tensors to draw by themselves: the name of a stored tensor (of a fused one its pieces together), "
        f"an id, or {MATRIX}.",
    )


class MatrixWindows(Settings):
    """Windows of matrices."""

    windows: Distinct[Window] = Field(
        ["W_Q:first@0:64,0:128"],
        description="Windows to draw element by element, each MATRIX@ROWS,COLUMNS, such as W_Q:0@0:300,100:300; "
        "MATRIX as in `matrices`.",
    )


class WeightProfile(MatrixWindows):
    """Rows, columns and heat maps of matrices."""

    matrices: Distinct[Text] = Field(
        ["W_E", "W_Q:first", "W_down:last"], description=f"Matrices to draw as heat maps, their ids, or {MATRIX}."
    )


class StreamPart(Settings):
    """Weights of streamed models, as they pass by."""

    parts: Annotated[int, Field(ge=1, le=1000), WHOLE] = Field(
        4, description="Parts that the shards are shared out to, each a job: to spread over cores and cluster jobs."
    )


class Sparsity(Settings):
    """Zeros, dead units, 2:4 patterns, repeated rows and pruning curves of every tensor."""

    near_rows_budget: Annotated[float, Field(ge=0)] = Field(
        1e12,
        description="Multiplications that may be spent on rows that are nearly parallel, of all matrices together, "
        "in their order (1e12 take about a minute on a few cores); in those beyond it they are not looked for.",
    )
