"""Settings of what quantization costs, and of recipes for it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from weight_atlas.quantization.formats import FORMATS
from weight_atlas.settings.ablations import Scored
from weight_atlas.settings.base import (
    Count,
    Distinct,
    FirstCorpus,
    Natural,
    Positive,
    Settings,
    Several,
    WindowLength,
    by_effort,
)

_FORMATS = "|".join(FORMATS)
SchemeName = Annotated[
    str,
    Field(
        pattern=rf"^({_FORMATS})/(tensor|channel|group:([2-9]|[1-9][0-9]+))(/asymmetric|/full)?(/clipped)?$",
    ),
]
SCHEMES = [
    "int8/tensor",
    "int8/tensor/clipped",
    "int8/channel",
    "int8/group:128",
    "fp8_e4m3/tensor",
    "fp8_e4m3/channel",
    "fp8_e5m2/tensor",
    "int4/tensor",
    "int4/tensor/clipped",
    "int4/channel",
    "int4/group:128",
    "int4/group:128/asymmetric",
    "int4/group:128/clipped",
    "int4/group:128/asymmetric/clipped",
    "int4/group:64",
    "int4/group:64/asymmetric",
    "int4/group:32",
    "int4/group:32/asymmetric",
    "nf4/group:64",
    "mxfp4/group:32",
    "nvfp4/group:16",
]


def _integers_only(names: list[str]) -> list[str]:
    for name in names:
        if not name.startswith("int") and name.endswith(("/asymmetric", "/full", "/clipped")):
            raise PydanticCustomError("no_such_scheme", "Only integers are asymmetric, full or clipped")
    return names


Schemes = Annotated[Distinct[SchemeName], AfterValidator(_integers_only)]


class QuantizationMeasures(Settings):
    """What is measured of every matrix as it is rounded to number formats."""

    schemes: Annotated[Schemes, Field(min_length=1)] = Field(
        SCHEMES,
        description="Each FORMAT/GRANULARITY, then /asymmetric (integers are symmetric else) or /full (symmetric with "
        "the lowest level too) and /clipped (each range shrunk to where its squared error is least). Granularities: "
        "tensor, channel (an output row), group:N (N neighbours in a row).",
    )
    kept_schemes: Schemes = Field(
        ["int8/tensor", "int4/group:128"],
        description="Schemes, of those above, to measure with the worst input channels kept in 16 bits.",
    )
    kept_channels: Distinct[Count] = Field(
        [1, 8], description="How many input channels, those with the largest magnitudes, stay in 16 bits there."
    )
    ready_db: Positive = Field(
        3.0, description="Loss against a Gaussian matrix, in dB, up to which a matrix is ready for a scheme."
    )
    sensitive_db: Positive = Field(6.0, description="Loss beyond which it is sensitive to it; 6 dB are one bit.")


class QuantizationSensitivity(QuantizationMeasures):
    """What rounding every matrix to number formats costs, from the weights alone."""

    drawn: Schemes = Field(
        ["int8/tensor", "int8/channel", "int4/group:128", "nvfp4/group:16"],
        description="Schemes to draw by layer and role, of `schemes`.",
    )


Tool = Literal["llama.cpp", "llm-compressor", "bitsandbytes", "torchao", "gptqmodel"]


class Recipe(Settings):
    """An entry of `recipes`."""

    format: Tool = Field(description="The tool that is to read it.")
    bits: Annotated[float, Field(gt=0, le=32)] | None = Field(
        None, description="Size in bits per weight of the whole model, scales and what stays in 16 bits included."
    )
    gb: Positive | None = Field(None, description="Size in GB (10^9 bytes) of the whole model, in place of bits.")

    @model_validator(mode="after")
    def _one_size(self) -> "Recipe":
        if (self.bits is None) == (self.gb is None):
            raise PydanticCustomError("one_size", "A recipe has one size: bits or gb")
        return self


class InputSecondMoments(FirstCorpus):
    """Second moment of each input channel of every matrix of a running model, which recipes weight errors by."""

    window: WindowLength = Field(512, description="Tokens in a window; at most the model's context.")
    tokens: Several = by_effort(16384, quick=4096, thorough=65536, description="Tokens of the corpus to run.")


class RecipePerplexity(Scored, FirstCorpus):
    """Perplexity of a running model rounded as a recipe says, beside single types of that size."""

    skip: Natural = by_effort(
        16384,
        quick=4096,
        thorough=65536,
        description="Tokens of the corpus before the scored ones, to leave out those that `input_second_moments` were "
        "measured on; fewer where the corpus has no more.",
    )
    larger: bool = Field(True, description="Whether to score the next larger single type too.")
