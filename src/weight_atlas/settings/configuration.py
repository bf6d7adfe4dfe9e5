"""All sections of a configuration."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from weight_atlas.settings.ablations import (
    Ablation,
    AblationEval,
    AblationImpact,
    AblationName,
    QuantizationAblation,
    ScalingSweep,
    VariantPerplexity,
)
from weight_atlas.settings.base import Effort, Entry, Name, Natural, Settings, Text
from weight_atlas.settings.circuits import HeadComposition, SingularDirections
from weight_atlas.settings.comparison import Base, Comparison, Lineage
from weight_atlas.settings.corpora import Corpus
from weight_atlas.settings.embeddings import EmbeddingGeometry, HeadSimilarity, ProjectionPca
from weight_atlas.settings.model_entries import Model
from weight_atlas.settings.quantization import InputSecondMoments, QuantizationSensitivity, Recipe, RecipePerplexity
from weight_atlas.settings.series import SeriesEntry
from weight_atlas.settings.spectra import (
    AttentionHead,
    AttentionKernel,
    EffectiveRank,
    HeavyTail,
    SingularValues,
    SpectrumView,
)
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
from weight_atlas.settings.tasks import BundledTasks, Task
from weight_atlas.settings.token_weights import TokenWeights
from weight_atlas.settings.tokenizers import TokenizerSpec
from weight_atlas.settings.vocabulary import (
    Cascade,
    Interventions,
    InterventionTargets,
    NeuronEffects,
    NeuronLabels,
    NeuronScan,
    SuperWeightCards,
    TokenClasses,
    VocabularySummary,
    Windows,
)
from weight_atlas.settings.weights import Sparsity, StreamPart, WeightProfile, WeightStatistics

# Braces and angle brackets mean wildcards and path variables to Snakemake.
Folder = Annotated[str, Field(min_length=1, pattern=r"^(?!\s)[^{}<>\n]+(?<!\s)$")]
Pair = Annotated[list[Text], Field(min_length=2, max_length=2)]
# A section that the configuration leaves out is an empty one.
DEFAULTS = Field({}, validate_default=True)


class Pathvars(Settings):
    """Where outputs go: results and logs, relative to the working directory."""

    results: Folder = Field(
        "results", description="Folder of all artifacts; its path holds no braces and no angle brackets."
    )
    logs: Folder = Field("logs", description="Folder of all logs; its path holds no braces and no angle brackets.")


class Configuration(Settings):
    """What to analyse, and how."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [key]} for key in ("models", "models_table", "series")]}
    )

    models: dict[Name, Entry[Model]] = Field(
        {}, description="The models to analyse, by a name of your choice; the name becomes part of file names."
    )
    models_table: Text | None = Field(
        None,
        description="A table of further models, with tabs between its columns: `name`, `source` and other keys of "
        "models; an empty cell leaves its key out, items of a list have commas between them, and a key of a section "
        "is a column such as super_weights.spike_threshold.",
    )
    series: dict[Name, SeriesEntry] = Field(
        {},
        description="Series of checkpoints of one training run, by a name of your choice: every number of their "
        "atlases over the steps, and how far the weights moved.",
    )
    corpora: Annotated[dict[Name, Entry[Corpus]], Field(min_length=1)] = Field(
        {"python-docs": {"source": "bundled:python-docs", "split": "test"}},
        validate_default=True,
        description="The texts to count tokens in and to evaluate on, by a name of your choice.",
    )
    tokenizers: dict[Name, Entry[TokenizerSpec]] = Field(
        {},
        description="Tokenizers without a model, to count the corpora by, by a name that no model has.",
    )
    token_weights: dict[Name, Entry[TokenWeights]] = Field(
        {},
        description="Vectors with one weight a token, such as a language detector has learned, or the norms of a "
        "model's embedding, by a name of your choice.",
    )
    effort: Effort = Field(
        "standard",
        description="How much the steps that run a model do: sets their windows, tokens, draws, removals, factors and "
        "formats together, as far as these are not set themselves. quick answers the headline questions: are there "
        "super weights, does their removal harm, what is the perplexity. standard, the default, measures enough "
        "tokens for intervals that tell a rise of perplexity by a tenth from none, and enough draws to say with 95 % "
        "whether a weight is special; it adds the sweep of factors, all number formats, and tasks on them. thorough "
        "takes about four times the tokens and three times the draws: the same verdicts, with intervals half as wide. "
        "`weight-atlas estimate` says what each costs.",
    )
    seed: Natural | None = Field(
        None, description="Seed of all steps that do not set their own; null: the default of each."
    )
    gpus: Natural = Field(
        1,
        description="GPUs that each step asks for which runs a model: several share the model's layers. 0: all steps "
        "run on the CPU, as on a cluster without GPUs. A model may have its own number.",
    )
    pairs: Literal["all"] | Base | dict[Name, Pair] = Field(
        {},
        description="Pairs of models to compare, as {tuned: [base, finetune]} by a name of your choice; all: every two "
        "models; {base: a}: each other model with a. Names are made then, as a-vs-b.",
    )
    rerun_on_versions: bool = Field(
        False,
        description="Run steps again whose numbers may depend on a library of which there is another major or minor "
        "version: torch, transformers, tokenizers, lm_eval, numpy, scipy. Each log begins with those that made it.",
    )
    local_downloads: bool = Field(
        True,
        description="Bring models, tokenizers, texts and items of tasks here where Snakemake itself runs, even if the "
        "other steps are jobs of a cluster, whose nodes often have no network.",
    )
    shared_cache: Text | None = Field(
        None,
        description="Folder in which working directories and users share dear artifacts, by the contents that they are "
        "made from; null: none. Whoever may write there must be trusted.",
    )
    pathvars: Pathvars = DEFAULTS
    stream_part: StreamPart = DEFAULTS
    weight_statistics: WeightStatistics = DEFAULTS
    weight_profile: WeightProfile = DEFAULTS
    sparsity: Sparsity = DEFAULTS
    quantization_sensitivity: QuantizationSensitivity = DEFAULTS
    recipes: dict[Name, Entry[Recipe]] = Field(
        {},
        description="Recipes for quantizing the models to a size with the least error, by a name of your choice; such "
        "as {four: {format: llama.cpp, bits: 4.5}}.",
    )
    input_second_moments: InputSecondMoments = DEFAULTS
    recipe_perplexity: RecipePerplexity = DEFAULTS
    singular_values: SingularValues = DEFAULTS
    effective_rank: EffectiveRank = DEFAULTS
    attention_kernel: AttentionKernel = DEFAULTS
    attention_head: AttentionHead = DEFAULTS
    heavy_tail: HeavyTail = DEFAULTS
    spectrum_view: SpectrumView = DEFAULTS
    comparison: Comparison = DEFAULTS
    lineage: Lineage = DEFAULTS
    embedding_geometry: EmbeddingGeometry = DEFAULTS
    projection_pca: ProjectionPca = DEFAULTS
    head_similarity: HeadSimilarity = DEFAULTS
    head_composition: HeadComposition = DEFAULTS
    singular_directions: SingularDirections = DEFAULTS
    super_weight_screening: SuperWeightScreening = DEFAULTS
    super_weights: SuperWeights = DEFAULTS
    weight_attribution: WeightAttribution = DEFAULTS
    super_weight_verification: SuperWeightVerification = DEFAULTS
    super_activations: SuperActivations = DEFAULTS
    generation: Generation = DEFAULTS
    massive_activations: MassiveActivations = DEFAULTS
    expert_routing: ExpertRouting = DEFAULTS
    ablations: dict[AblationName, Entry[Ablation]] = Field(
        {"super_weights": {"zero": {}, "each": {}, "restore": {}, "super_experts": {}, "random": {}}},
        validate_default=True,
        description="Named changes of a model whose cost is measured; the unchanged model always is.",
    )
    tasks: dict[Name, Entry[Task]] = Field(
        {name: {"name": f"bundled:{name}"} for name in ("order", "phrase", "documents")},
        validate_default=True,
        description="Tasks of lm-evaluation-harness to evaluate every ablation on, by a name of your choice.",
    )
    bundled_tasks: BundledTasks = DEFAULTS
    ablation_eval: AblationEval = DEFAULTS
    variant_perplexity: VariantPerplexity = DEFAULTS
    ablation_impact: AblationImpact = DEFAULTS
    scaling_sweep: ScalingSweep = DEFAULTS
    quantization_ablation: QuantizationAblation = DEFAULTS
    token_classes: TokenClasses = DEFAULTS
    neuron_scan: NeuronScan = DEFAULTS
    neuron_labels: NeuronLabels = DEFAULTS
    neuron_effects: NeuronEffects = DEFAULTS
    windows: Windows = DEFAULTS
    intervention_targets: InterventionTargets = DEFAULTS
    interventions: Interventions = DEFAULTS
    cascade: Cascade = DEFAULTS
    super_weight_cards: SuperWeightCards = DEFAULTS
    vocabulary_summary: VocabularySummary = DEFAULTS
