"""What the steps of the workflow find by running a model on text."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from weight_atlas.api.weights import WeightAnalyses
from weight_atlas.errors import AtlasError, unknown_name
from weight_atlas.settings.messages import checked

if TYPE_CHECKING:
    from weight_atlas.ablations.evaluation import Evaluation
    from weight_atlas.ablations.prepare import Opened
    from weight_atlas.live.anatomy import Anatomy
    from weight_atlas.live.windows import Windows
    from weight_atlas.super_weights.massive_report import MassiveReport
    from weight_atlas.super_weights.super_activations import Activations
    from weight_atlas.super_weights.survey import Survey
    from weight_atlas.super_weights.verification import Verification
    from weight_atlas.super_weights.weight_attribution import Attribution
    from weight_atlas.tokens.corpus_counts import CorpusCounts
    from weight_atlas.tokens.model_vocabulary import ModelVocabulary

# A table of documents (see read_corpus), or what read_corpus takes as a source.
Corpus: TypeAlias = pd.DataFrame | str | list[str]
_BASELINE = "baseline"


class LiveAnalyses(WeightAnalyses):
    """The analyses that run the model; see Model."""

    @cached_property
    def live(self) -> "tuple[Anatomy, Any]":
        """The model in memory, ready for forward passes, by its parts (live.anatomy), and its tokenizer."""
        return self._loaded()

    @cached_property
    def vocabulary(self) -> "ModelVocabulary":
        """The tokenizer, and each id's token as it reads in a text (tokens.model_vocabulary)."""
        from weight_atlas.tokens.model_vocabulary import read_vocabulary

        return read_vocabulary(
            self.checkpoint.folder,
            self.checkpoint.config,
            self.inventory,
            trust_remote_code=self.running.trust_remote_code,
        )

    def token_counts(self, corpus: Corpus) -> "CorpusCounts":
        """Exact counts of the tokens of a corpus: table, groups and summary (tokens.corpus_counts)."""
        from weight_atlas.tokens.batches import batched
        from weight_atlas.tokens.corpus_counts import count_corpus

        documents = _documents(corpus)
        groups = documents["group"] if "group" in documents else [""] * len(documents)
        return count_corpus(self.vocabulary, batched(zip(documents["text"], groups, strict=True)))

    def super_weights(self, **settings: Any) -> "Survey":
        """Super weights and the evidence: table, artifact, detection (settings.super_weights.SuperWeights)."""
        from weight_atlas.settings.super_weights import SuperWeights
        from weight_atlas.super_weights.survey import survey

        live, tokenizer = self.live
        wanted = checked(SuperWeights, settings, "super_weights")
        return survey(live, tokenizer, self.inventory, wanted, model=self.source, source=self.source)

    def weight_attribution(self, corpus: Corpus, **settings: Any) -> "Attribution":
        """First-order effect of every weight on the loss (settings.super_weights.WeightAttribution)."""
        from weight_atlas.settings.super_weights import WeightAttribution
        from weight_atlas.super_weights.weight_attribution import attributed

        wanted = checked(WeightAttribution, settings, "weight_attribution")
        return attributed(*self.live, _documents(corpus), wanted)

    def verify(self, corpus: Corpus, found: "Survey | None" = None, **settings: Any) -> "Verification":
        """Remove each super weight, beside random weights of its size (settings.super_weights.SuperWeightVerification).

        corpus: what the model is scored on. found: of super_weights(); None looks for them.
        """
        from weight_atlas.settings.super_weights import SuperWeightVerification
        from weight_atlas.super_weights.verdict import verified

        wanted = checked(SuperWeightVerification, settings, "verify")
        live, tokenizer = self.live
        texts, screening = _documents(corpus), self.super_weight_screening()
        effects = self.weight_attribution(texts).table
        return verified(live, tokenizer, self._survey(found).artifact, texts, screening, effects, wanted)[0]

    def super_activations(self, corpus: Corpus, found: "Survey | None" = None, **settings: Any) -> "Activations":
        """The tokens at which super activations arise, and the attention on them (settings.super_weights).

        found: of super_weights(); None looks for them. The model is loaded once more, with attention that gives its
        weights. settings: SuperActivations.
        """
        from weight_atlas.settings.super_weights import SuperActivations
        from weight_atlas.super_weights.artifact import coordinates_of
        from weight_atlas.super_weights.super_activations import super_activations

        wanted = checked(SuperActivations, settings, "super_activations")
        coordinates = coordinates_of(self._survey(found).artifact, self.source)
        windows = self._windows(corpus, self._window(wanted.window), wanted.tokens, wanted.seed)
        live, tokenizer = self._loaded(attention="eager")
        return super_activations(live, windows, coordinates, tokenizer, ratio=wanted.residual_ratio)

    def massive_activations(self, corpus: Corpus, found: "Survey | None" = None, **settings: Any) -> "MassiveReport":
        """Massive activations from where they arise to where they are removed, and the attention on them.

        found: of super_weights(); None looks for them. The model is loaded once more, with attention that gives its
        weights. settings: settings.super_weights.MassiveActivations.
        """
        from weight_atlas.settings.super_weights import MassiveActivations
        from weight_atlas.super_weights.massive_report import massive_report

        wanted = checked(MassiveActivations, settings, "massive_activations")
        artifact = self._survey(found).artifact
        live, tokenizer = self._loaded(attention="eager")
        return massive_report(live, tokenizer, _documents(corpus), artifact, wanted)

    def expert_routing(self, corpus: Corpus, **settings: Any) -> pd.DataFrame:
        """Every expert of a mixture of experts on text: routing, largest activations, weights that carry them.

        settings: settings.super_weights.ExpertRouting.
        """
        from weight_atlas.settings.super_weights import ExpertRouting
        from weight_atlas.super_weights.expert_table import check_experts, expert_table

        check_experts(self.inventory)
        wanted = checked(ExpertRouting, settings, "expert_routing")
        length = self._window(wanted.window)
        windows = self._windows(corpus, length, wanted.router_analysis_samples * length, wanted.seed)
        return expert_table(self.live[0], windows, wanted)

    def perplexity(self, corpus: Corpus, **settings: Any) -> pd.DataFrame:
        """Perplexity on a corpus, a row of the table of ablate (settings.ablations.WindowScores)."""
        return self._perplexities(corpus, settings)

    def ablate(
        self,
        changes: Mapping[str, Any],
        corpus: Corpus,
        found: "Survey | None" = None,
        *,
        experts: pd.DataFrame | None = None,
        **settings: Any,
    ) -> pd.DataFrame:
        """Perplexity after each of some changes of weights, the unchanged model first (ablations.perplexity).

        changes: an ablation as in the configuration, such as {"zero": {}} or {"scale": {"factors": [0.5]}}, and
        `weights` for given ones, [{"layer": 1, "row": 7, "col": 11}] or [{"layer": 1, "role": "W_O", "head": 2}], in
        place of super weights. found: of super_weights(); None looks for them where they are needed. experts: of
        expert_routing(), for {"super_experts": {}}. settings: see perplexity.
        """
        survey = self._changed(changes, found)
        opened = self._expanded("ablation", dict(changes), survey, experts)
        return self._perplexities(corpus, settings, opened, detected=survey is not None)

    def quantization_error(
        self, found: "Survey | None" = None, *, weights: list[dict[str, Any]] | None = None, **settings: Any
    ) -> pd.DataFrame:
        """Error of every matrix after rounding to fewer bits, plain and with super weights spared.

        A row per variant and matrix (ablations.quantization_errors); `ablate({"quantize": {...}}, ...)` gives the
        perplexity. found: of super_weights(); None looks for them, unless `weights` (see ablate) are spared. settings:
        settings.ablations.Quantize.
        """
        from weight_atlas.ablations.quantization_errors import scheme_errors
        from weight_atlas.ablations.quantization_variants import quantizations
        from weight_atlas.settings.ablations import Quantize

        wanted = checked(Quantize, settings, "quantization_error")
        changes = {"quantize": wanted.model_dump(), "weights": weights}
        name = "quantization_ablation"
        opened = self._expanded(name, changes, self._changed(changes, found))
        return scheme_errors(opened.live, quantizations(opened.expansion.description(name)))

    def evaluate(
        self,
        task: str,
        changes: Mapping[str, Any] | None = None,
        found: "Survey | None" = None,
        *,
        corpus: "Corpus | None" = None,
        batch_size: int | None = None,
        **settings: Any,
    ) -> "Evaluation":
        """Scores of a task of lm-evaluation-harness, of the unchanged model and after changes of weights.

        task: a name of the harness, or a bundled one such as "bundled:order", which is made from a corpus (`corpus=`).
        changes, found: see ablate; None evaluates the unchanged model only. batch_size:
        requests in one forward pass; None takes what memory allows. settings: of settings.ablations.Task, such as
        limit=100 documents; and of a bundled task `items`, at most, drawn by `item_seed`.
        """
        from weight_atlas.ablations.evaluation import evaluate_task
        from weight_atlas.settings.tasks import BundledItems, Task

        own = {"items": "items", "item_seed": "seed"}
        items = checked(BundledItems, {own[key]: settings[key] for key in own if key in settings}, "evaluate")
        wanted = checked(Task, {key: value for key, value in settings.items() if key not in own}, "evaluate")
        text = _documents(corpus) if isinstance(corpus, str | list) else corpus
        ablations = [self._expanded(_BASELINE, {}, None)]
        if changes is not None:
            ablations.append(self._expanded("ablation", dict(changes), self._changed(changes, found)))
        return evaluate_task(ablations, task, wanted, items, corpus=text, batch_size=batch_size)

    def _loaded(self, attention: str | None = None) -> "tuple[Anatomy, Any]":
        from weight_atlas.live.load import live_model

        return live_model(self.checkpoint, self.running, device=self.device, attention=attention)

    def _window(self, window: int) -> int:
        """Length of windows: as asked for, or the model's context where that is shorter."""
        return min(window, self.live[0].context or window)

    def _windows(self, corpus: Corpus, window: int, tokens: int, seed: int) -> "Windows":
        from weight_atlas.live.windows import drawn_windows

        live, tokenizer = self.live
        where = corpus if isinstance(corpus, str) else None
        return drawn_windows(
            _documents(corpus), tokenizer, window=window, tokens=tokens, limit=live.context, where=where, seed=seed
        )

    def _survey(self, found: "Survey | None") -> "Survey":
        return self.super_weights() if found is None else found

    def _changed(self, changes: Mapping[str, Any], found: "Survey | None") -> "Survey | None":
        """The super weights that changes are made to; None where the changes name their weights, or need none.

        AtlasError for a kind of change that there is not.
        """
        from weight_atlas.ablations.choices import WITHOUT_WEIGHTS
        from weight_atlas.settings.ablations import KINDS

        known = (*KINDS, "weights")
        if unknown := [key for key in changes if key not in known]:
            raise unknown_name("kind of change", unknown[0], known, where="changes")
        needed = any(changes[key] is not None for key in changes.keys() - {"weights", *WITHOUT_WEIGHTS})
        return self._survey(found) if needed and changes.get("weights") is None else None

    def _expanded(
        self, ablation: str, changes: dict[str, Any], found: "Survey | None", experts: pd.DataFrame | None = None
    ) -> "Opened":
        from weight_atlas.ablations.prepare import expanded
        from weight_atlas.ablations.stored_weights import located

        changes = located(changes, self.inventory, "ablation")
        return expanded(*self.live, ablation, changes, None if found is None else found.artifact, experts=experts)

    def _perplexities(
        self, corpus: Corpus, settings: dict[str, Any], ablation: "Opened | None" = None, *, detected: bool = False
    ) -> pd.DataFrame:
        from weight_atlas.ablations.perplexity import perplexity_table
        from weight_atlas.ablations.window_scores import corpus_scores
        from weight_atlas.settings.ablations import WindowScores

        wanted = checked(WindowScores, settings, "perplexity")
        name = corpus if isinstance(corpus, str) else "corpus"
        documents = _documents(corpus)

        def scored(what: str, opened: "Opened") -> tuple[dict, pd.DataFrame]:
            return corpus_scores(opened, documents, what, wanted, detected=detected, where=name)

        _, unchanged = scored(_BASELINE, self._expanded(_BASELINE, {}, None))
        return perplexity_table(name, unchanged, [scored("ablation", ablation)] if ablation else [])


def _documents(corpus: Corpus) -> pd.DataFrame:
    """The documents of a corpus; AtlasError for a table without texts."""
    from weight_atlas.tokens.corpora import read_corpus

    if not isinstance(corpus, pd.DataFrame):
        return read_corpus(corpus)
    if "text" not in corpus:
        remedy = "give a row a document, with its `text` and, for counts by group, its `group`"
        raise AtlasError("the table of the corpus has no column text", remedy=remedy)
    return corpus
