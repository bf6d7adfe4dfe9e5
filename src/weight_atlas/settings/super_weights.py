"""Settings of super weights and of the activations that they write."""

from typing import Annotated, Literal

from pydantic import Field

from weight_atlas.settings.base import (
    Count,
    Distinct,
    FirstCorpus,
    Natural,
    Positive,
    PositiveShare,
    Settings,
    Several,
    Share,
    Text,
    WindowLength,
    by_effort,
)

Ratio = Annotated[float, Field(gt=1)]


class SuperWeightScreening(Settings):
    """Candidates for super weights from the weights alone."""

    top: Count = Field(8, description="Weights reported of each MLP output projection.")


class SuperWeights(Settings):
    """Detection of super weights: from one forward pass, and by the published procedure."""

    method: Literal["contribution", "published", "both"] = Field(
        "contribution",
        description="Whose finds are called super weights: contribution attributes massive activations to weights in "
        "one forward pass; published zeroes spikes round by round. Both are always run and recorded.",
    )
    prompts: Annotated[Distinct[Text], Field(min_length=1)] | None = Field(
        None, description="Texts to look for spikes in; null: a built-in list that begins with the paper's sentence."
    )
    residual_ratio: Ratio = Field(
        50.0, description="A massive activation is at least this many times the median of its layer."
    )
    persistence: Share = Field(0.5, description="Share of the layers after it that must keep a massive activation.")
    coverage: PositiveShare = Field(
        0.8,
        description="Weights are taken, largest contribution first, until they explain this share of an activation.",
    )
    min_share: PositiveShare = Field(0.1, description="A weight that contributes a smaller share is not taken.")
    spike_threshold: Positive | None = Field(
        None,
        description="Published procedure: what both |input| and |output| must exceed; null: 120 for Llama, 100 for "
        "Mistral, 70 for OLMo, 150 for Phi, each with its mixtures and later generations, 50 for others; the artifact "
        "says which and why.",
    )
    max_iterations: Count = Field(10, description="Published procedure: rounds of looking for spikes and zeroing them.")
    min_rho: float = Field(
        0.5,
        description="Published procedure: share of the output, weight times input, that a weight must explain; the "
        "original asked for none.",
    )


class WeightAttribution(FirstCorpus):
    """First-order effect of every weight on the loss, from one backward pass."""

    window: WindowLength | None = Field(
        256, description="Tokens in a window, special tokens included; null: the model's context, at most 2048."
    )
    tokens: Several = by_effort(
        2048,
        quick=1024,
        thorough=8192,
        description="Tokens of the corpus, drawn all over it, that the loss is taken on.",
    )
    top: Count = Field(8, description="Weights, rows and columns reported of each matrix.")
    seed: Natural = Field(0, description="Seed of the pieces of text and of the random weights for comparison.")
    memory: Positive = Field(
        2.0,
        description="GiB that the activations of all layers may take; above it every layer is run twice and keeps only "
        "its input.",
    )


class SuperWeightVerification(FirstCorpus):
    """Interventions that show whether super weights matter."""

    window: WindowLength | None = by_effort(
        256,
        quick=128,
        thorough=256,
        description="Tokens in a window, special tokens included; null: the model's context, at most 2048.",
    )
    tokens: Several = by_effort(
        4096,
        quick=512,
        thorough=16384,
        description="Tokens that every variant is run on, of passages drawn from all over the corpus.",
    )
    score_every: Count = Field(4, description="Score every so many tokens: the head is then computed for these only.")
    draws: Natural = by_effort(
        50,
        quick=25,
        thorough=150,
        description="Random weights that each super weight is compared with. With fewer than 25 none can be called "
        "special.",
    )
    seed: Natural = Field(0, description="Seed of the draws and of the passages of text.")
    batch_size: Count = Field(16, description="Variants in one forward pass, at most: fewer for long windows.")
    critical_ratio: Ratio = Field(
        1.5,
        description="A removal is harmful if it multiplies perplexity by this or more.",
    )
    contributing_ratio: Ratio = Field(
        1.1, description="A removal is mild from this factor on perplexity on, and harmless below it."
    )
    max_candidates: Count = by_effort(20, quick=3, thorough=20, description="Weights to verify, those detected first.")
    removals: Natural = by_effort(
        32,
        quick=16,
        thorough=128,
        description="Other weights, rows and columns of any matrix to remove once each, the most promising by size or "
        "first-order effect; of the harmful ones single weights are verified too, up to max_candidates in all, and "
        "rows and columns searched for sets of weights that matter together.",
    )
    enable_causal_scoring: bool = Field(
        False, description="For weights of experts, also the effect with every token sent to the expert."
    )


class SuperActivations(FirstCorpus):
    """Where the activations that super weights write arise, and the attention on these places."""

    window: WindowLength = Field(256, description="Tokens in a window.")
    tokens: Several = by_effort(
        4096, quick=1024, thorough=16384, description="Tokens to look at, of passages drawn from all over the corpus."
    )
    seed: Natural = Field(0, description="Seed of the passages of text.")
    residual_ratio: Ratio = Field(
        50.0,
        description="A super activation is at least this many times the median of its layer, and massive (Sun et al.) "
        "or half of its channel's largest.",
    )


class Generation(Settings):
    """Text that a model continues, as it is, without its super weights, and with the activations that they write."""

    prompts: Annotated[Distinct[Text], Field(min_length=1)] | None = Field(
        None, description="Beginnings of texts to continue; null: three that come with weight-atlas, as a base model's."
    )
    tokens: Several = by_effort(
        32, quick=16, thorough=64, description="Tokens to generate after each prompt, the likeliest each time."
    )
    each: Natural = by_effort(
        4, quick=1, thorough=16, description="Weights also removed one by one, at most, the most harmful first."
    )


class MassiveActivations(FirstCorpus):
    """Massive activations from where they arise to where they are removed, and the attention that they draw."""

    window: WindowLength = Field(256, description="Tokens in a window.")
    tokens: Several = by_effort(
        1024, quick=512, thorough=4096, description="Tokens of the corpus, drawn all over it, to look at and to score."
    )
    seed: Natural = Field(0, description="Seed of the pieces of text and of the random weights for comparison.")
    residual_ratio: Ratio = Field(50.0, description="A massive activation is at least this many times the median.")
    channels: Count = Field(8, description="Massive channels to trace, the largest first.")
    min_share: PositiveShare = Field(
        0.1, description="Weights are named that contribute this share of what their site adds, or more."
    )
    removals: Natural = by_effort(
        8, quick=4, thorough=24, description="Weights that are set to zero, one at a time, those that do most first."
    )
    draws: Natural = by_effort(
        10, quick=5, thorough=40, description="Random weights of its matrix that each of them is compared with."
    )
    batch_size: Count = Field(16, description="Variants in one forward pass, at most: fewer for long windows.")


class ExpertRouting(FirstCorpus):
    """Routing and activations of the experts of a mixture of experts."""

    router_analysis_samples: Count = by_effort(
        10, quick=4, thorough=40, description="Windows of text in which the routing is looked at."
    )
    window: WindowLength = Field(256, description="Tokens in a window.")
    seed: Natural = Field(0, description="Seed of the passages of text that the windows are of.")
    p_active_floor: Share = Field(
        0.01,
        description="An expert that fewer tokens reach than this share counts as rare and gives no candidates.",
    )
    co_spike_threshold: Share = Field(
        0.12, description="Published threshold of the co-spike score; reported, decides nothing."
    )
    min_tokens: Count = Field(
        4, description="Tokens that must have reached an expert before its weights can be candidates."
    )
    residual_ratio: Ratio = Field(
        50.0,
        description="A weight is a candidate if it contributes this many times the median of the token's residual "
        "stream.",
    )
    enable_causal_scoring: bool = Field(
        False,
        description="Also what zeroing the strongest weights does to the loss, with natural and with forced routing.",
    )
    batch_size: Count = Field(
        8, description="Windows in one forward pass of the causal scoring, at most: fewer for long windows."
    )
