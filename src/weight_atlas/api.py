"""The library as a library: open a model, ask it for what the steps of the workflow compute.

Every method is the function behind the step of its name, on the same inputs, so that its numbers are those of the
step's tables. Modules that compute are imported by the methods that need them.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.fetch import fetch
from weight_atlas.checkpoint.source import CheckpointSpec

if TYPE_CHECKING:
    from weight_atlas.live.anatomy import Anatomy
    from weight_atlas.super_weights.survey import Survey
    from weight_atlas.super_weights.verification import Verification
    from weight_atlas.tokens.model_vocabulary import CorpusCounts, ModelVocabulary

# A table of documents (see read_corpus), or what read_corpus takes as a source.
Corpus: TypeAlias = pd.DataFrame | str | list[str]
_BASELINE = "baseline"


def open(
    source: str,
    *,
    revision: str | None = None,
    family: str | None = None,
    key: str | None = None,
    prefix: str | None = None,
    allow_other: bool = False,
    trust_remote_code: bool = False,
    device: str = "cpu",
    dtype: str = "auto",
    threads: int = 1,
) -> "Model":
    """Open a model: "hf://org/name", a folder, a checkpoint file, or "bundled:demo".

    revision: branch, tag or commit of a model on the hub, which is downloaded into the hub's own cache. family, key,
    prefix, allow_other, trust_remote_code: as in the configuration. device, dtype: of what is computed on a device and
    of forward passes ("auto": bfloat16 on "cuda", float32 on "cpu"). threads: for what can use them. Nothing but the
    index of the tensors is read. AtlasError where something is wrong with the source or its files.
    """
    spec = CheckpointSpec(source, revision, family, key, prefix, allow_other, trust_remote_code)
    checkpoint = fetch(spec, threads=threads).open(spec)
    return Model(checkpoint, source, trust_remote_code=trust_remote_code, device=device, dtype=dtype, threads=threads)


class Model:
    """One model: its checkpoint, and what the steps of the workflow find in it.

    The inventory, the histograms, the spectra, the vocabulary and the live model are kept once they are there. What
    does not apply to a model (no experts, no language-model head) raises NotApplicable, what is wrong AtlasError.
    `settings` are the keyword arguments of the function that a method names, which explains them.
    """

    def __init__(
        self, checkpoint: Checkpoint, source: str, *, trust_remote_code: bool = False, device: str = "cpu",
        dtype: str = "auto", threads: int = 1,
    ):  # fmt: skip
        self.checkpoint, self.source = checkpoint, source
        self.trust_remote_code, self.device, self.dtype, self.threads = trust_remote_code, device, dtype, threads

    def __repr__(self) -> str:
        return f"weight_atlas.open({self.source!r})"

    @cached_property
    def inventory(self) -> pd.DataFrame:
        """Every tensor: role, component, layer, expert, heads, shape, stored type (families.inventory)."""
        from weight_atlas.families.inventory import inventory

        return inventory(self.checkpoint, allow_other=self.checkpoint.allow_other)

    @cached_property
    def live(self) -> "tuple[Anatomy, Any]":
        """The model in memory, ready for forward passes, by its parts (live.anatomy), and its tokenizer."""
        from weight_atlas.live.opening import live_model

        return live_model(
            self.checkpoint, trust_remote_code=self.trust_remote_code, device=self.device, dtype=self.dtype
        )

    @cached_property
    def vocabulary(self) -> "ModelVocabulary":
        """The tokenizer, and each id's token as it reads in a text (tokens.model_vocabulary)."""
        from weight_atlas.tokens.model_vocabulary import read_vocabulary

        return read_vocabulary(
            self.checkpoint.folder, self.checkpoint.config, self.inventory, trust_remote_code=self.trust_remote_code
        )

    def architecture(self) -> dict[str, Any]:
        """The configuration by its fields, with sizes and counts (families.architecture)."""
        from weight_atlas.families.architecture import architecture

        return architecture(self.checkpoint.config, self.inventory, self.checkpoint.family)

    def parameters(self) -> pd.DataFrame:
        """Parameters and bytes by stack, layer, category, role and stored type (families.architecture)."""
        from weight_atlas.families.architecture import parameter_table

        return parameter_table(self.inventory)

    def statistics(self) -> pd.DataFrame:
        """Moments, percentiles, normality and sparsity of every tensor (weights.statistics)."""
        from weight_atlas.weights.statistics import weight_statistics

        return weight_statistics(self._histograms)

    def cdf(self) -> pd.DataFrame:
        """Cumulative distribution of the weights by role and layer (weights.cdf)."""
        from weight_atlas.weights.cdf import weight_cdf

        return weight_cdf(self._histograms)

    def spectra(self) -> pd.DataFrame:
        """All singular values of every weight matrix, a row each (spectra.table)."""
        return self._spectra.copy()

    def effective_rank(self) -> pd.DataFrame:
        """All measures of rank of every weight matrix, beside their Gaussian null (spectra.ranks)."""
        from weight_atlas.spectra.ranks import effective_ranks

        return effective_ranks(self._spectra)

    def heavy_tails(self, **settings: Any) -> pd.DataFrame:
        """Power law, random bulk and norms of every weight matrix (settings: spectra.heavy_tails.TailSettings)."""
        from weight_atlas.spectra.heavy_tails import TailSettings, heavy_tails

        return heavy_tails(self._spectra, TailSettings(**settings))

    def attention_kernels(self, *, fold_norm: bool = False, scaled: bool = False) -> pd.DataFrame:
        """Spectra of W_Q^T W_K and W_O W_V of every head (spectra.attention_table).

        fold_norm: fold the gain of the norm before the attention into the weights that read it. scaled: divide QK
        kernels by sqrt(head_dim).
        """
        from weight_atlas.families.inventory import matrices
        from weight_atlas.families.reading import load_gain
        from weight_atlas.spectra.attention_factors import norm_gains
        from weight_atlas.spectra.attention_table import attention_kernels

        gains = norm_gains(self.inventory, partial(load_gain, self.checkpoint)) if fold_norm else None
        return attention_kernels(matrices(self.inventory), self._load, gains=gains, scaled=scaled, threads=self.threads)

    def token_counts(self, corpus: Corpus) -> "CorpusCounts":
        """Exact counts of the tokens of a corpus: table and summary (tokens.model_vocabulary)."""
        from weight_atlas.tokens.corpora import batched
        from weight_atlas.tokens.model_vocabulary import count_corpus

        return count_corpus(self.vocabulary, batched(_documents(corpus)["text"]))

    def super_weight_screening(self, **settings: Any) -> pd.DataFrame:
        """Candidates for super weights from the weights alone (settings: super_weights.screening.screen)."""
        from weight_atlas.super_weights.screening import screen

        return screen(self.inventory, self._load, **settings)

    def super_weights(self, **settings: Any) -> "Survey":
        """Super weights and the evidence for them: table, artifact, detection (settings: super_weights.survey)."""
        from weight_atlas.super_weights.survey import survey

        live, tokenizer = self.live
        return survey(live, tokenizer, self.inventory, model=self.source, source=self.source, **settings)

    def verify(self, corpus: Corpus, found: "Survey | None" = None, **settings: Any) -> "Verification":
        """Remove each super weight, beside random weights of its size (settings: super_weights.verdict.verified).

        corpus: what the model is scored on. found: of super_weights(); None looks for them.
        """
        from weight_atlas.super_weights.verdict import verified

        found = self.super_weights() if found is None else found
        live, tokenizer = self.live
        screening = self.super_weight_screening()
        return verified(live, tokenizer, found.artifact, _documents(corpus), screening, **settings)[0]

    def token_classes(self) -> pd.DataFrame:
        """Which tokens of the vocabulary are digits, pronouns, punctuation (vocabulary.token_classes)."""
        from weight_atlas.vocabulary.token_classes import read_token_classes

        return read_token_classes(self.vocabulary.tokenizer, self.vocabulary.texts)

    def neurons(self, *, tokens: int | None = None, **thresholds: float | str) -> pd.DataFrame:
        """What every neuron does to the vocabulary, and its label (vocabulary.neuron_scan, vocabulary.labels).

        tokens: how many of the strongest to list up and down. thresholds: of the labels.
        """
        from weight_atlas.vocabulary.labels import with_labels
        from weight_atlas.vocabulary.neuron_scan import scan_neurons

        listed = {} if tokens is None else {"tokens": tokens}
        scanned = scan_neurons(self.checkpoint, self.inventory, self.token_classes(), device=self.device, **listed)
        return with_labels(scanned, self.inventory, thresholds)

    def perplexity(self, corpus: Corpus, **settings: Any) -> pd.DataFrame:
        """Perplexity on a corpus, a row of the table of ablate (settings: ablations.window_scores.corpus_scores)."""
        return self._perplexities(corpus, {}, None, settings)

    def ablate(
        self, changes: Mapping[str, Any], corpus: Corpus, found: "Survey | None" = None, **settings: Any
    ) -> pd.DataFrame:
        """Perplexity after each of some changes of weights, the unchanged model first (ablations.perplexity).

        changes: an ablation as in the configuration, such as {"zero": {}} or {"scale": {"factors": [0.5]}}, and
        `weights` for given ones, [{"layer": 1, "row": 7, "col": 11}], in place of super weights. found: of
        super_weights(); None looks for them where they are needed. settings: see perplexity.
        """
        from weight_atlas.ablations.prepare import check_inventory

        if changes.get("weights") is not None:
            check_inventory(dict(changes), self.inventory, "ablation")
        elif found is None:
            found = self.super_weights()
        return self._perplexities(corpus, {"ablation": dict(changes)}, found, settings)

    def _perplexities(
        self, corpus: Corpus, ablations: dict[str, dict], found: "Survey | None", settings: dict[str, Any]
    ) -> pd.DataFrame:
        from weight_atlas.ablations.perplexity import perplexity_table
        from weight_atlas.ablations.prepare import expanded
        from weight_atlas.ablations.window_scores import corpus_scores

        name = corpus if isinstance(corpus, str) else "corpus"
        documents = _documents(corpus)

        def scored(ablation: str, changes: dict, survey: "Survey | None") -> tuple[dict, pd.DataFrame]:
            opened = expanded(*self.live, ablation, changes, None if survey is None else survey.artifact)
            return corpus_scores(opened, documents, ablation, detected=survey is not None, where=name, **settings)

        _, unchanged = scored(_BASELINE, {}, None)
        return perplexity_table(name, unchanged, [scored(each, changes, found) for each, changes in ablations.items()])

    @property
    def _load(self) -> Callable[[Any], Any]:
        from weight_atlas.families.reading import load_piece

        return partial(load_piece, self.checkpoint)

    @cached_property
    def _histograms(self) -> list[pd.DataFrame]:
        from weight_atlas.families.reading import load_piece
        from weight_atlas.weights.histogram_table import histogram_parts
        from weight_atlas.weights.streaming import portions, value_histograms, warned

        work = portions(self.inventory, self.checkpoint, load_piece)
        return list(histogram_parts(self.inventory, warned(value_histograms(work, self.threads))))

    @cached_property
    def _spectra(self) -> pd.DataFrame:
        from weight_atlas.families.inventory import matrices
        from weight_atlas.spectra.table import in_inventory_order, singular_value_table

        table = singular_value_table(matrices(self.inventory), self._load, threads=self.threads, device=self.device)
        return in_inventory_order([table], self.inventory)


def _documents(corpus: Corpus) -> pd.DataFrame:
    from weight_atlas.tokens.corpora import read_corpus

    return corpus if isinstance(corpus, pd.DataFrame) else read_corpus(corpus)
