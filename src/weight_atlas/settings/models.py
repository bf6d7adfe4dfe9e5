"""A model: where it lies, how its files are read, and how its forward passes are made."""

from typing import Annotated, Literal

from pydantic import Field

from weight_atlas.settings.base import Settings, Text


class OwnCode(Settings):
    """Whether code that a model brings may run."""

    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")


class Live(OwnCode):
    """How forward passes are made."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type to compute forward passes in; auto: bfloat16 on CUDA, float32 on a CPU."
    )


class Inventoried(Settings):
    """What becomes of tensors without a role."""

    allow_other: bool = Field(
        False,
        description="Inventory tensors that the family table does not know as `other` instead of refusing the model; "
        "without a family, all of them.",
    )


class Stored(OwnCode, Inventoried):
    """How a model's files are read."""

    family: str | None = Field(None, description="Family table to use instead of the one that config.json selects.")
    key: str | None = Field(
        None, description="Dotted key of the state dict inside a checkpoint file, for example model_state_dict."
    )
    prefix: Text | None = Field(
        None,
        description="What stands before the model's tensor names where training put it inside another module, for "
        "example student; tensors without it are left out. The usual wrappers are recognised.",
    )


class Spooled(Settings):
    """How much of a streamed model is here at a time."""

    spool_gb: Annotated[float, Field(gt=0)] = Field(
        10.0,
        description="GB (10^9 bytes) on disk that one part of a streamed model takes. Shards of up to half of it are "
        "fetched whole and compared with the hub's digests; larger ones come in ranges, of which no digest is known.",
    )


class CheckpointSpec(Stored, Spooled):
    """Where a model lies, and how its files are read."""

    source: Text = Field(
        description="Where the model lies: bundled:demo, hf://organisation/name, ms://organisation/name "
        "(ModelScope), a folder, or a checkpoint file."
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of a hub model; resolved to a commit and recorded."
    )
    stream: bool = Field(
        False,
        description="Let the weights of a hub model pass by instead of downloading them: for models larger than the "
        "disk (docs/large-models.md). What needs them again, or all in memory, does not apply then.",
    )


class Opened(CheckpointSpec, Live):
    """A model, and how its forward passes are made."""
