"""The models to analyse: entries of `models`, with sections of their own.

Apart from what single steps are given of a model: a step would else read the classes of all sections.
"""

from typing import Any

from pydantic import Field

from weight_atlas.settings.ablations import (
    AblationEval,
    AblationImpact,
    QuantizationAblation,
    ScalingSweep,
    WindowScores,
)
from weight_atlas.settings.analyses import MADE_WITH, Analysis
from weight_atlas.settings.base import Distinct, Effort, Natural, Settings
from weight_atlas.settings.models import Opened
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

    analyses: Distinct[Analysis] | None = Field(
        None,
        description="The analyses to make of this model; null: all. Of each pair one step makes both: "
        f"{', '.join(f'`{name}` and `{other}`' for name, other in MADE_WITH.items())}; of ablations only those are "
        "measured that a chosen analysis is about.",
    )
    effort: Effort | None = Field(None, description="The `effort` for this model; null: that of the configuration.")
    gpus: Natural | None = Field(
        None, description="GPUs for each step that runs this model; null: the number of the configuration."
    )


class Model(Analysed, Opened):
    """An entry of `models`."""
