"""What the steps of the workflow find about the effects of neurons and weights on the vocabulary."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from weight_atlas.api.live import Corpus, LiveAnalyses, _documents
from weight_atlas.settings.messages import checked

if TYPE_CHECKING:
    from weight_atlas.live.windows import Windows
    from weight_atlas.super_weights.survey import Survey
    from weight_atlas.vocabulary.interventions import Measured
    from weight_atlas.vocabulary.neuron_cards import NeuronCards
    from weight_atlas.vocabulary.super_weight_cards import WeightCards

# [layer, neuron] or [layer, expert, neuron]; [layer, row, col] or [layer, expert, row, col].
Indices = Sequence[Sequence[int]]


class VocabularyAnalyses(LiveAnalyses):
    """The analyses of effects on the vocabulary; see Model."""

    def token_classes(self, **settings: Any) -> pd.DataFrame:
        """Which tokens of the vocabulary are digits, pronouns, punctuation (settings.vocabulary.TokenClasses)."""
        from weight_atlas.errors import NotApplicable
        from weight_atlas.settings.vocabulary import TokenClasses
        from weight_atlas.vocabulary.token_classes import read_token_classes

        untrained: list[int] = []
        if checked(TokenClasses, settings, "token_classes").leave_out_untrained:
            with suppress(NotApplicable):
                untrained = self._untrained_tokens()
        return read_token_classes(self.vocabulary.tokenizer, self.vocabulary.texts, untrained)

    def _untrained_tokens(self) -> list[int]:
        from weight_atlas.tokens.tokenizer import token_names
        from weight_atlas.weights.vocabulary_matrices import untrained_tokens

        names = token_names(self.checkpoint.folder, trust_remote_code=self.running.trust_remote_code)
        rows, _ = untrained_tokens(self.inventory, self._load, names, self.checkpoint.config)
        return rows.loc[rows["signs"] != "", "token_id"].tolist()

    def singular_directions(self, **settings: Any) -> pd.DataFrame:
        """First singular directions of W_OV and W_down, read as tokens (settings.circuits.SingularDirections)."""
        from weight_atlas.circuits.directions import singular_directions
        from weight_atlas.circuits.of_checkpoint import norms_of
        from weight_atlas.circuits.reading import token_reader
        from weight_atlas.settings.circuits import SingularDirections

        wanted = checked(SingularDirections, settings, "singular_directions")
        return singular_directions(
            self.checkpoint,
            self.inventory,
            token_reader(self.checkpoint, self.inventory, self.token_classes()),
            norms_of(self.checkpoint, self.inventory),
            directions=wanted.directions,
            tokens=wanted.tokens,
        )

    def head_circuits(self) -> pd.DataFrame:
        """Copying, matching and induction of every head through the vocabulary (circuits.head_circuits)."""
        from weight_atlas.circuits.head_cards import leading_pairs
        from weight_atlas.circuits.of_checkpoint import circuits_of, scores_of
        from weight_atlas.errors import NotApplicable

        pairs = None
        with suppress(NotApplicable):  # a model with one layer has circuits, but no compositions
            scores = scores_of(self.checkpoint, self.inventory, threads=self.threads)
            pairs = leading_pairs(scores.frames())
        return circuits_of(self.checkpoint, self.inventory, self.token_classes(), pairs)

    def neurons(self, **settings: Any) -> pd.DataFrame:
        """Effects of every neuron on the vocabulary, and its label (settings.vocabulary.NeuronLabels)."""
        from weight_atlas.settings.vocabulary import NeuronLabels
        from weight_atlas.vocabulary.labels import with_labels

        return with_labels(self._neuron_scan, self.inventory, checked(NeuronLabels, settings, "neurons"))

    def neuron_effects(self, neurons: Indices = (), found: "Survey | None" = None, **settings: Any) -> "NeuronCards":
        """A card for each of some neurons: moments of its effects, strongest tokens, enriched classes of tokens.

        neurons: [layer, neuron] or [layer, expert, neuron]. found: of super_weights(), whose neurons are taken too.
        settings: settings.vocabulary.CardSettings.
        """
        from weight_atlas.settings.vocabulary import CardSettings
        from weight_atlas.vocabulary.neuron_cards import NeuronCards, cards_of
        from weight_atlas.vocabulary.selection import select_neurons

        wanted = checked(CardSettings, settings, "neuron_effects")
        detected = [] if found is None else found.artifact["super_weights"]
        chosen = select_neurons(self.neurons(), detected, neurons, top_k=wanted.top_k, order=wanted.top_by)
        cards, effects = cards_of(
            self.checkpoint, self.inventory, self.token_classes(), chosen, tokens=wanted.tokens, device=self.device
        )
        return NeuronCards(cards, effects)

    def intervention_targets(
        self, found: "Survey | None" = None, coordinates: Indices = (), *, most: int | None = None
    ) -> list[dict[str, Any]]:
        """The weights to intervene on, as records (vocabulary.targets): detected ones, and those of coordinates.

        found: of super_weights(); None looks for them unless there are coordinates. coordinates: [layer, row, col] or
        [layer, expert, row, col]. most: of the detected ones.
        """
        from weight_atlas.vocabulary.targets import find_targets

        detected = [] if coordinates and found is None else self._survey(found).artifact["super_weights"]
        return find_targets(self.checkpoint, self.inventory, detected, coordinates, most=most)

    def windows(self, corpus: Corpus, **settings: Any) -> "Windows":
        """Sliding windows of token ids for interventions (settings.vocabulary.Windows)."""
        from weight_atlas.settings.vocabulary import Windows as WindowSettings
        from weight_atlas.vocabulary.windows import sliding_windows

        wanted = checked(WindowSettings, settings, "windows")
        live, tokenizer = self.live
        where = corpus if isinstance(corpus, str) else "the corpus"
        return sliding_windows(_documents(corpus), tokenizer, wanted, context=live.context, where=where)[0]

    def cascade(
        self, windows: "Windows", targets: list[dict[str, Any]], *, factor: float | None = None, **settings: Any
    ) -> pd.DataFrame:
        """How a change of single weights travels through the layers above them (settings.vocabulary.Averages).

        windows: of windows(). targets: of intervention_targets(), each multiplied by `factor`; None: the
        configuration's default, which removes them.
        """
        from weight_atlas.settings.vocabulary import Averages
        from weight_atlas.vocabulary.cascade import cascade
        from weight_atlas.vocabulary.target_coordinates import coordinates_of
        from weight_atlas.vocabulary.windows import windows_for

        wanted = checked(Averages, settings, "cascade")
        first = windows.first(windows_for(windows, wanted.tokens))
        factor = _default_factor() if factor is None else factor
        return cascade(self.live[0], first, coordinates_of(targets), factor=factor, k=wanted.margin_k)

    def interventions(
        self, windows: "Windows", targets: list[dict[str, Any]], *, factor: float | None = None, **settings: Any
    ) -> "Measured":
        """Changes of predictions by a change of single weights, beside controls (settings.vocabulary.Interventions).

        windows: of windows(). targets: of intervention_targets(), each multiplied by `factor`; None: the
        configuration's default, which removes them.
        """
        from weight_atlas.settings.vocabulary import Interventions
        from weight_atlas.vocabulary.interventions import measure_interventions
        from weight_atlas.vocabulary.prediction_measures import prediction_measure, stop_words
        from weight_atlas.vocabulary.target_coordinates import coordinates_of
        from weight_atlas.vocabulary.windows import windows_for

        wanted = checked(Interventions, settings, "interventions")
        live = self.live[0]
        return measure_interventions(
            live,
            windows,
            coordinates_of(targets),
            prediction_measure(stop_words(live.model, self.token_classes()), wanted.margin_k),
            wanted,
            factor=_default_factor() if factor is None else factor,
            control_windows=windows_for(windows, wanted.control_tokens),
        )

    def super_weight_cards(
        self,
        targets: list[dict[str, Any]],
        measured: "Measured",
        cascade: pd.DataFrame,
        *,
        factor: float | None = None,
        **settings: Any,
    ) -> "WeightCards":
        """A card for each of some weights: changes of predictions beside controls, tokens that move, cascade.

        targets: of intervention_targets(). measured, cascade: of interventions() and cascade() on these targets with
        this `factor`. settings: settings.vocabulary.SuperWeightCards.
        """
        from weight_atlas.settings.vocabulary import SuperWeightCards
        from weight_atlas.vocabulary.super_weight_cards import WeightCards, weight_cards

        wanted = checked(SuperWeightCards, settings, "super_weight_cards")
        changed = {"factor": _default_factor() if factor is None else factor, "targets": targets}
        tokens = self.token_classes()
        cards, effects = weight_cards(
            self.checkpoint, self.inventory, changed, measured.windows, measured.changes, cascade, tokens, wanted
        )
        return WeightCards(cards, effects)

    @cached_property
    def _neuron_scan(self) -> pd.DataFrame:
        from weight_atlas.settings.vocabulary import NeuronScan
        from weight_atlas.vocabulary.neuron_scan import scan_neurons

        return scan_neurons(
            self.checkpoint, self.inventory, self.token_classes(), tokens=NeuronScan().tokens, device=self.device
        )


def _default_factor() -> float:
    from weight_atlas.settings.vocabulary import InterventionTargets

    return InterventionTargets().factor
