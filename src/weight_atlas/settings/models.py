"""The models to analyse."""

from typing import Any, Literal

from pydantic import Field

from weight_atlas.settings.ablations import (
    AblationEval,
    AblationImpact,
    QuantizationAblation,
    ScalingSweep,
    WindowScores,
)
from weight_atlas.settings.analyses import Analysis
from weight_atlas.settings.base import Distinct, Effort, Settings, Text
from weight_atlas.settings.quantization import InputSecondMoments, RecipePerplexity
from weight_atlas.settings.super_weights import (
    ExpertRouting,
    Generation,
    MassiveActivations,
    SuperActivations,
    SuperWeights,
    SuperWeightScreening,
    SuperWeightVerification,
    WeightAttribution,
)
from weight_atlas.settings.vocabulary import Cascade, DetectedTargets, Interventions, SuperWeightCards, Windows


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


class CheckpointSpec(Stored):
    """Where a model lies, and how its files are read."""

    source: Text = Field(
        description="Where the model lies: bundled:demo, hf://organisation/name, a folder, or a checkpoint file."
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of a hub model; resolved to a commit and recorded."
    )


class Opened(CheckpointSpec, Live):
    """A model, and how its forward passes are made."""


def _own(section: str) -> Any:
    return Field(None, description=f"Keys of `{section}` for this model alone; they win over all others.")


class OwnSettings(Settings):
    """Sections whose keys a model may set for itself: those of the steps that run it."""

    super_weight_screening: SuperWeightScreening | None = _own("super_weight_screening")
    super_weights: SuperWeights | None = _own("super_weights")
    weight_attribution: WeightAttribution | None = _own("weight_attribution")
    super_weight_verification: SuperWeightVerification | None = _own("super_weight_verification")
    super_activations: SuperActivations | None = _own("super_activations")
    generation: Generation | None = _own("generation")
    massive_activations: MassiveActivations | None = _own("massive_activations")
    expert_routing: ExpertRouting | None = _own("expert_routing")
    variant_perplexity: WindowScores | None = _own("variant_perplexity")
    ablation_eval: AblationEval | None = _own("ablation_eval")
    ablation_impact: AblationImpact | None = _own("ablation_impact")
    scaling_sweep: ScalingSweep | None = _own("scaling_sweep")
    quantization_ablation: QuantizationAblation | None = _own("quantization_ablation")
    input_second_moments: InputSecondMoments | None = _own("input_second_moments")
    recipe_perplexity: RecipePerplexity | None = _own("recipe_perplexity")
    windows: Windows | None = _own("windows")
    intervention_targets: DetectedTargets | None = _own("intervention_targets")
    interventions: Interventions | None = _own("interventions")
    cascade: Cascade | None = _own("cascade")
    super_weight_cards: SuperWeightCards | None = _own("super_weight_cards")


class Analysed(OwnSettings):
    """What is made of a model."""

    analyses: Distinct[Analysis] | None = Field(None, description="The analyses to make of this model; null: all.")
    effort: Effort | None = Field(None, description="The `effort` for this model; null: that of the configuration.")


class Model(Analysed, Opened):
    """An entry of `models`."""
