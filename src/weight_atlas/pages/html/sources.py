"""What a page is drawn from beside the products of analyses."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of a model that the map and its cards read; None for one that has not been made."""

    checkpoint: Path | None = None
    tensor_inventory: Path | None = None
    value_histogram: Path | None = None
    weight_profile: Path | None = None
    singular_values: Path | None = None
    attention_kernel: Path | None = None
