"""Settings of what neurons and single weights do to the vocabulary."""

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from weight_atlas.settings.base import (
    WHOLE,
    Count,
    Distinct,
    Factor,
    FirstCorpus,
    Natural,
    Positive,
    PositiveShare,
    Settings,
    Several,
    WindowLength,
    by_effort,
)
from weight_atlas.vocabulary.orders import ORDERS

if TYPE_CHECKING:
    Order: TypeAlias = str
else:
    Order = Literal[tuple(ORDERS)]
# A number, or a percentile over the model's neurons.
Threshold = float | Annotated[str, Field(pattern=r"^p(100|[0-9]{1,2}(\.[0-9]+)?)(?!\n)$")]
NeuronIndex = Annotated[list[Natural], Field(min_length=2, max_length=3)]
WeightIndex = Annotated[list[Natural], Field(min_length=3, max_length=4)]
MARGIN_K = "The top-k margin is the likeliest token's probability minus the k-th likeliest's."


class TokenClasses(Settings):
    """Classes of tokens, and which of them the analyses of the vocabulary read."""

    leave_out_untrained: bool = Field(
        True,
        description="Leave tokens whose embeddings show no training (see untrained_rows) out of the moments, labels "
        "and strongest tokens of neurons, directions and heads.",
    )


class NeuronScan(Settings):
    """Effects of all neurons on the vocabulary."""

    tokens: Annotated[int, Field(ge=1, le=200), WHOLE] = Field(
        10, description="Strongest tokens to keep of each neuron, up and down."
    )


class NeuronLabels(Settings):
    """Labels of all neurons. A threshold is a number, or a percentile over the model's neurons such as p99."""

    kurtosis: Threshold = Field(
        10.0,
        description="Raw kurtosis (a Gaussian has 3) above which a neuron is called prediction (skew > 0) or "
        "suppression.",
    )
    cosine_variance: Threshold = Field(
        0.005,
        description="Variance of the cosines above which a neuron is called partition; it must also be twice that of a "
        "random direction, 2 / d_model.",
    )
    entropy_layers: PositiveShare = Field(
        0.25, description="Share of the layers, from the last, in which entropy neurons are looked for."
    )
    entropy_cosine_variance: Threshold = Field(
        "p5", description="Variance of the cosines up to which a neuron may be called entropy."
    )
    entropy_norm: Threshold = Field(
        "p95", description="Norm from which a neuron may be called entropy; a percentile is taken within its layer."
    )


class CardSettings(Settings):
    """Which neurons have cards beside those that are named, and what stands on them."""

    top_k: Natural = Field(2, description="Neurons to describe of each layer.")
    top_by: Order = Field(
        "kurtosis",
        description="What puts neurons of a layer first: a moment of their effects or of their cosines, high or low.",
    )
    tokens: Count = Field(20, description="Tokens to list up and down.")


class NeuronEffects(CardSettings):
    """Cards of single neurons: those of super weights, those listed, and the extremes of each layer."""

    neurons: dict[str, Distinct[NeuronIndex]] = Field(
        {}, description="Neurons to describe, by model: lists of [layer, neuron] or [layer, expert, neuron]."
    )


class Windows(FirstCorpus):
    """Sliding windows that all interventions share. Settings that make no windows end with what would work."""

    window_len: WindowLength | None = Field(
        None,
        description="Tokens in a window, special tokens included; null: 1024, or less where model or corpus allow "
        "less.",
    )
    stride: Count | None = Field(None, description="New tokens from one window to the next; null: half a window.")
    tokens: Annotated[int, Field(ge=4), WHOLE] | None = by_effort(
        30000,
        quick=4096,
        thorough=100000,
        description="Tokens to use, of passages drawn from all over the corpus; null: all of it, in its order.",
    )
    seed: Natural = Field(0, description="Seed of the passages of text.")
    drop_first_token: bool = Field(False, description="Do not score a window's first token of text.")
    bos: Literal["tokenizer", "always", "never"] = Field(
        "tokenizer",
        description="Special tokens before each window: those that the tokenizer puts before a text, or a BOS always "
        "or never.",
    )


class DetectedTargets(Settings):
    """Which detected weights to intervene on, and how."""

    most: Natural = by_effort(
        10, quick=3, thorough=20, description="Detected super weights to take, in the order of detection."
    )
    factor: Factor = Field(0.0, description="What a weight is multiplied by; 0 removes it.")


class InterventionTargets(DetectedTargets):
    """The weights to intervene on."""

    coordinates: dict[str, Distinct[WeightIndex]] = Field(
        {},
        description="Weights beside the detected ones, by model: lists of [layer, row, col] or [layer, expert, row, "
        "col].",
    )


class Interventions(Settings):
    """What removing single weights does to predictions, beside controls."""

    draws: Natural = by_effort(
        50,
        quick=20,
        thorough=150,
        description="Random weights of the same matrix, nearest in size, multiplied alike, to compare each target "
        "with.",
    )
    shift_draws: Natural = by_effort(
        50,
        quick=20,
        thorough=150,
        description="Random weights of any magnitude, changed by the same amount, to compare each target with.",
    )
    control_tokens: Count | None = by_effort(
        2048,
        quick=512,
        thorough=8192,
        description="Tokens to score the random draws on, which are most of the cost; null: all.",
    )
    margin_k: Several = Field(2, description=MARGIN_K)
    seed: Natural = Field(0, description="Seed of the draws.")
    batch_size: Count = Field(
        16, description="Interventions that go through a layer together, at most: fewer for long windows."
    )


class Averages(Settings):
    """What a cascade is averaged over."""

    tokens: Count | None = by_effort(4096, quick=1024, thorough=16384, description="Tokens to average over; null: all.")
    margin_k: Several = Field(2, description=MARGIN_K)


class Cascade(Averages):
    """How an intervention travels through the layers, read through the logit lens."""

    text: str | None = Field(
        None, description="Text for the map of layers and tokens; null: the beginning of the corpus."
    )
    text_tokens: Annotated[int, Field(ge=1, le=400), WHOLE] = Field(40, description="Tokens of that text to show.")


class SuperWeightCards(Settings):
    """Cards of super weights: changes, intervals, controls, words, cascade."""

    bootstrap: Natural = Field(500, description="Resamples of the stored windows for intervals; 0: none.")
    tokens: Count = Field(20, description="Tokens to list up and down.")
    seed: Natural = Field(0, description="Seed of the resampling.")
    cascade_ratio: float = Field(
        2.0,
        ge=1,
        description="How far the KL of the last layer must be from that of the first for a cascade not to be called "
        "stable; also, in accelerating ones, of the growth in the upper half of the layers from that in the lower.",
    )
    cascade_smallest: Positive = Field(
        0.0001,
        description="KL in nats below which nothing travels: a cascade that stays below it is called stable.",
    )


class VocabularySummary(Settings):
    """All models side by side."""

    significance: PositiveShare = Field(0.05, description="Corrected p value below which a class counts as enriched.")
