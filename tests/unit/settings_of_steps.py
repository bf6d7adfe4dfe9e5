"""Settings of made-up steps."""

from pydantic import Field

from weight_atlas.settings.base import Settings, Several


class Phases(Settings):
    """Settings of a step."""

    phases: Several = Field(3, description="Phases that the layers are cut into.")
    limit: float | None = Field(None, gt=0, description="Largest value; null: all.")


class Own(Settings):
    """Settings of a model."""

    tags: list[str] = Field([], description="Names.")
