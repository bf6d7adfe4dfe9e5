"""Settings of ablations, and of the texts that their cost is measured on."""

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from weight_atlas.quantization.formats import FORMATS, OF_ACTIVATIONS
from weight_atlas.settings.base import (
    WHOLE,
    Count,
    Distinct,
    Factor,
    Name,
    Natural,
    Percent,
    Positive,
    Settings,
    Several,
    Text,
    WindowLength,
    by_effort,
)
from weight_atlas.settings.places import Place, Weight

if TYPE_CHECKING:
    Format: TypeAlias = str
else:
    Format = Literal[tuple(FORMATS)]
Granularity = Annotated[str, Field(pattern=r"^(tensor|channel|group:([2-9]|[1-9][0-9]+)|block:([2-9]|[1-9][0-9]+))$")]
GRANULARITIES = ["tensor", "channel", "group:128"]
InputSchemeName = Annotated[str, Field(pattern=rf"^({'|'.join(OF_ACTIVATIONS)})/(tensor|token)$")]
WeightSchemeName = Annotated[
    str, Field(pattern=rf"^({'|'.join(FORMATS)})/(tensor|channel|group:([2-9]|[1-9][0-9]+)|block:([2-9]|[1-9][0-9]+))$")
]
FewestFactors = Annotated[Distinct[Factor], Field(min_length=1)]
# Ablations that have a section of their own, and the unchanged model.
TAKEN = ("baseline", "scaling_sweep", "quantization_ablation")


def _free(name: str) -> str:
    if name in TAKEN:
        raise PydanticCustomError("name_taken", "weight-atlas makes an ablation of this name itself")
    return name


AblationName = Annotated[Name, AfterValidator(_free), Field(json_schema_extra={"not": {"enum": list(TAKEN)}})]


class Plain(Settings):
    """A kind of change that has no settings."""


class Scale(Settings):
    """Factors on the weights."""

    factors: FewestFactors = Field([0.5, 2.0], description="Factors, one variant each.")


class Random(Settings):
    """Random weights in place of the given ones."""

    draws: Count = by_effort(5, quick=3, thorough=20, description="Draws, one variant each.")
    seed: Natural = Field(0, description="Seed of the draws.")


class Largest(Settings):
    """How many of the largest weights of a matrix."""

    share: Annotated[float, Field(gt=0, le=0.01)] = Field(
        1e-06, description="Share of each matrix, at least one weight."
    )
    count: Count | None = Field(
        None, description="Weights of each matrix, in place of a share; at most a hundredth of the smallest."
    )


class SuperExperts(Settings):
    """Random experts of the same layers in place of the super experts."""

    draws: Natural = by_effort(
        3, quick=1, thorough=10, description="Draws of as many other experts of the same layers, one variant each."
    )
    seed: Natural = Field(0, description="Seed of the draws.")


class TokenRows(Settings):
    """Rows of tokens of low weight, by a vector of `token_weights`."""

    vector: Text = Field(description="Name of the vector in `token_weights`: of this model, or of its tokenizer.")
    matrix: Literal["W_E", "W_U"] = Field(
        "W_E", description="Matrix whose rows are set to zero; of a model with tied embeddings both are."
    )
    percentiles: Annotated[Distinct[Percent], Field(min_length=1)] = by_effort(
        [1.0, 5.0, 10.0, 25.0, 50.0],
        quick=[5.0, 25.0],
        thorough=[1.0, 5.0, 10.0, 25.0, 50.0],
        description="Shares of the tokens to prune, per cent: those of lowest weight.",
    )
    prune_by: Literal["magnitude", "weight"] = Field(
        "magnitude", description="What counts as low: the absolute value, or the value with its sign."
    )
    draws: Natural = by_effort(
        1, quick=1, thorough=5, description="Random sets of as many tokens for comparison, for each share."
    )
    seed: Natural = Field(0, description="Seed of the draws.")


class Quantize(Settings):
    """How matrices are quantized."""

    formats: Annotated[Distinct[Format], Field(min_length=1)] = Field(
        ["int8", "int4"], description="Number formats, rounded to nearest."
    )
    granularities: Annotated[Distinct[Granularity], Field(min_length=1)] = by_effort(
        GRANULARITIES,
        quick=GRANULARITIES[1:],
        thorough=GRANULARITIES,
        description="What shares a scale: tensor, channel (an output row), group:N (N neighbours in a row) or block:N "
        "(N neighbours of the flattened matrix).",
    )
    symmetric: bool = Field(
        False, description="Integers symmetric about zero, rather than from the smallest to the largest weight."
    )
    clip: Positive | None = Field(
        8.0,
        description="Where super weights are spared, clip all others at mean + clip x standard deviation of the "
        "magnitudes first; null: do not.",
    )
    matrices: Literal["all", "W_down"] = Field(
        "all", description="What is quantized: all matrices of the layers, or the MLP output projections alone."
    )
    activations: Distinct[InputSchemeName] = Field(
        [],
        description="What matrices are multiplied with is quantized too, in these ways, FORMAT/tensor (one scale a "
        "text) or FORMAT/token: with all of it rounded, and with the activations that the weights write kept.",
    )
    activations_beside: Distinct[WeightSchemeName] = Field(
        ["int8/channel"],
        description="Quantized weights, FORMAT/GRANULARITY, to quantize activations beside; weights as they are come "
        "first.",
    )


class Kinds(Settings):
    """The kinds of change that an ablation may make; a test holds them to the code that makes them."""

    zero: Plain | None = Field(None, description="Set the weights to zero, all together. {} does it, null does not.")
    each: Plain | None = Field(None, description="Set the weights to zero one by one. {} does it, null does not.")
    scale: Scale | None = Field(
        None, description="Multiply the weights, all together. {factors: [0.5, 2]} does it, null does not."
    )
    neurons: Plain | None = Field(
        None, description="Set the weights' whole neurons to zero. {} does it, null does not."
    )
    restore: Plain | None = Field(
        None,
        description="Set the weights to zero but keep the massive activations that they make. {} does it, null does "
        "not.",
    )
    experts: Plain | None = Field(
        None, description="Set the weights' whole experts to zero. {} does it, null does not."
    )
    super_experts: SuperExperts | None = Field(
        None,
        description="Set the super experts of a mixture of experts, which `expert_routing` names, to zero, and as many "
        "random experts of the same layers. {draws: 3, seed: 0} does it, null does not; a model without experts has no "
        "such variants.",
    )
    random: Random | None = Field(
        None,
        description="Set random weights of the same matrix, nearest in size, to zero instead. {draws: 5, seed: 0} does "
        "it, null does not.",
    )
    largest: Largest | None = Field(
        None,
        description="Set the largest other weights of every matrix of the layers to zero instead. {share: 1e-6} does "
        "it, null does not.",
    )
    quantize: Quantize | None = Field(
        None,
        description="Quantize matrices and read them back, plain and sparing the weights. {} does it, with the "
        "settings of quantization_ablation but formats int8 and int4, null does not.",
    )
    token_rows: TokenRows | None = Field(
        None,
        description="Set the rows of tokens of low weight in the embedding to zero. {vector: NAME} does it, null does "
        "not.",
    )


KINDS = tuple(Kinds.model_fields)


class Tasks(Settings):
    """A section that is evaluated on tasks."""

    tasks: Distinct[str] | None = Field(None, description="Tasks to evaluate on, beside perplexity; null: all.")


class Ablation(Kinds, Tasks):
    """An entry of `ablations`."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [kind], "properties": {kind: {"type": "object"}}} for kind in KINDS]}
    )

    weights: Annotated[Distinct[Place], Field(min_length=1)] | None = Field(
        None,
        description="Weights by hand, of any matrix, norm or bias; null: the detected super weights. "
        "{layer: 1, row: 7, col: 3} is one of W_down. Others have a role (W_E, W_Q, W_K, W_V, W_O, W_gate, W_up, W_U, "
        "norm, W_Q.bias) or the module's name below its layer (component: self_attn.o_proj), and may have an expert. A "
        "row, a col or a head alone is all of it, a role alone all of its matrix.",
    )

    @model_validator(mode="after")
    def _changes_something(self) -> "Ablation":
        if all(getattr(self, kind) is None for kind in KINDS):
            raise PydanticCustomError(
                "no_change",
                "This ablation changes nothing",
                {"remedy": f"give at least one kind of change: {', '.join(KINDS)}; {{}} takes the defaults of a kind"},
            )
        return self


class ScalingSweep(Tasks):
    """The super weights multiplied by several factors."""

    factors: FewestFactors = by_effort(
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.2, 1.5, 2.0, 3.0],
        quick=[0.0, 0.5, 1.0, 2.0],
        thorough=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 5.0],
        description="Factors, 1 being the unchanged model.",
    )
    tasks: Distinct[str] | None = by_effort(
        None, quick=[], thorough=None, description="Tasks to evaluate on, beside perplexity; null: all."
    )
    weights: Annotated[Distinct[Weight], Field(min_length=1)] | None = Field(
        None, description="Weights by hand; null: the detected super weights."
    )


class QuantizationAblation(Quantize, Tasks):
    """Matrices quantized and read back, with super weights spared and not."""

    formats: Annotated[Distinct[Format], Field(min_length=1)] = by_effort(
        ["int8", "int4", "int3", "nf4", "fp8_e4m3"],
        quick=["int8", "int4"],
        thorough=["int8", "int4", "int3", "nf4", "fp8_e4m3"],
        description="Number formats, rounded to nearest.",
    )
    activations: Distinct[InputSchemeName] = by_effort(
        ["int8/tensor", "int8/token", "fp8_e4m3/tensor"],
        quick=["int8/token"],
        thorough=["int8/tensor", "int8/token", "fp8_e4m3/tensor"],
        description="What matrices are multiplied with is quantized too, in these ways, FORMAT/tensor (one scale a "
        "text) or FORMAT/token: with all of it rounded, and with super activations kept.",
    )
    weights: Annotated[Distinct[Weight], Field(min_length=1)] | None = Field(
        None, description="Weights to spare; null: the detected super weights."
    )
    tasks: Distinct[str] | None = Field([], description="Tasks to evaluate on, beside perplexity; null: all.")


class AblationEval(Settings):
    """Evaluation of ablations by lm-evaluation-harness."""

    batch_size: Count | None = Field(
        None,
        description="Requests in one forward pass, at most: fewer if they are long. null: 64 on CUDA and 16 elsewhere. "
        "Halved where memory runs out.",
    )


class Scored(Settings):
    """How much text is scored, and in what windows."""

    window: WindowLength | None = by_effort(
        None,
        quick=256,
        thorough=None,
        description="Tokens in a window, special tokens included; null: the model's context, at most 2048. In short "
        "windows perplexity is higher than published ones.",
    )
    tokens: Several | None = by_effort(
        8192, quick=2048, thorough=65536, description="Tokens of the corpus to score; null: all of it."
    )
    batch_size: Count | None = Field(
        None,
        description="Windows, or variants of a window, that go through the model together, at most: fewer for long "
        "windows. null: 64 on CUDA and 16 elsewhere. Halved where memory runs out.",
    )


class WindowScores(Scored):
    """How perplexity is measured."""

    tokens: Several | None = by_effort(
        8192,
        quick=2048,
        thorough=65536,
        description="Tokens to score, of passages drawn from all over the corpus; null: all of it, in its order.",
    )
    seed: Natural = Field(0, description="Seed of the passages of text.")


class VariantPerplexity(WindowScores):
    """Perplexity of ablations on fixed windows of corpora."""

    corpora: Distinct[str] | None = Field(None, description="Corpora to evaluate on; null: the first one.")


class AblationImpact(Settings):
    """Comparison of every variant with the unchanged model, item by item."""

    resamples: Annotated[int, Field(ge=100), WHOLE] = Field(2000, description="Resamples of the bootstrap over items.")
    seed: Natural = Field(0, description="Seed of the bootstrap.")
