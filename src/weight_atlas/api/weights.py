"""What the steps of the workflow find in the weights of a checkpoint, without running the model."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import pandas as pd

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError, first_line
from weight_atlas.settings.messages import checked
from weight_atlas.settings.models import Live, Opened


def _usable(device: str) -> str:
    """The device, or AtlasError if torch cannot compute on it; for the CPU torch is not even imported."""
    if device != "cpu":
        import torch

        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            what = f"torch cannot compute on {device}: {first_line(error)}"
            raise AtlasError(
                what, where="device", remedy="give cpu, or a device of this machine, such as cuda:0"
            ) from error
    return device


class WeightAnalyses:
    """A checkpoint and the analyses of its weights; see Model."""

    def __init__(self, checkpoint: Checkpoint, spec: Opened, *, device: str = "cpu", threads: int = 1):
        self.checkpoint, self.source, self.device, self.threads = checkpoint, spec.source, _usable(device), threads
        self.running = Live(dtype=spec.dtype, trust_remote_code=spec.trust_remote_code)

    def __repr__(self) -> str:
        return f"weight_atlas.open({self.source!r})"

    @property
    def threads(self) -> int:
        """Threads for what can use several, at least 1."""
        return self._threads

    @threads.setter
    def threads(self, number: int) -> None:
        if number < 1:
            raise AtlasError(f"{number} threads compute nothing", where="threads", remedy="give 1 or more")
        self._threads = number

    @cached_property
    def inventory(self) -> pd.DataFrame:
        """Every tensor: role, component, layer, expert, heads, shape, stored type (families.inventory)."""
        from weight_atlas.families.inventory import inventory

        return inventory(self.checkpoint, allow_other=self.checkpoint.allow_other)

    def architecture(self) -> dict[str, Any]:
        """The configuration by its fields, with sizes and counts (families.architecture_summary)."""
        from weight_atlas.families.architecture import Architecture
        from weight_atlas.families.architecture_summary import configuration

        return configuration(Architecture.of(self.checkpoint, allow_other=True), self.inventory)

    def parameters(self) -> pd.DataFrame:
        """Parameters and bytes by stack, layer, category, role and stored type (families.architecture_summary)."""
        from weight_atlas.families.architecture_summary import parameter_table

        return parameter_table(self.inventory)

    def statistics(self) -> pd.DataFrame:
        """Moments, percentiles, normality and sparsity of every tensor (weights.statistics)."""
        from weight_atlas.weights.statistics import weight_statistics

        return weight_statistics(self._readings[0])

    def cdf(self) -> pd.DataFrame:
        """Cumulative distribution of the weights by role and layer (weights.cdf)."""
        from weight_atlas.weights.cdf import weight_cdf

        return weight_cdf(self._readings[0])

    def profile(self) -> pd.DataFrame:
        """Sums, magnitudes and zeros of every matrix by row, column and cell, in lists (weights.profile)."""
        return pd.concat(self._readings[1], ignore_index=True)

    def sparsity(self, **settings: Any) -> pd.DataFrame:
        """Zeros, dead units, 2:4 patterns and repeated rows of every tensor (settings.weights.Sparsity)."""
        from weight_atlas.settings.weights import Sparsity
        from weight_atlas.weights.sparsity import sparsity
        from weight_atlas.weights.structured_sparsity import dead_units, near_methods, structure, with_structure

        wanted = checked(Sparsity, settings, "sparsity")
        histograms, profiles = self._readings
        tensors, _ = sparsity(histograms)
        found = dead_units(row for part in profiles for row in part.itertuples(index=False))
        stored = self.inventory.set_index("id", drop=False).loc[found["id"]]
        near = near_methods(stored, wanted.near_rows_budget)
        return with_structure(tensors, found.merge(structure(stored, self._load, near), on="id"))

    def quantization_sensitivity(self, **settings: Any) -> pd.DataFrame:
        """What every scheme costs every matrix, beside a Gaussian one (settings.quantization)."""
        from weight_atlas.families.pieces import matrices
        from weight_atlas.quantization.sensitivity import quantization_sensitivity
        from weight_atlas.settings.quantization import QuantizationSensitivity

        wanted = checked(QuantizationSensitivity, settings, "quantization_sensitivity")
        found = {row.id: row for row in matrices(self.inventory).itertuples(index=False)}
        return quantization_sensitivity(self._readings[0], found, self._load, wanted, self.threads).errors

    def spectra(self) -> pd.DataFrame:
        """All singular values of every weight matrix, a row each (spectra.table)."""
        return self._spectra.copy()

    def effective_rank(self) -> pd.DataFrame:
        """All measures of rank of every weight matrix, beside their Gaussian null (spectra.ranks)."""
        from weight_atlas.spectra.ranks import effective_ranks

        return effective_ranks(self._spectra)

    def heavy_tails(self, **settings: Any) -> pd.DataFrame:
        """Power law, random bulk and norms of every weight matrix (settings.spectra.Tails)."""
        from weight_atlas.settings.spectra import Tails
        from weight_atlas.spectra.heavy_tails import heavy_tails

        return heavy_tails(self._spectra, checked(Tails, settings, "heavy_tails"))

    def attention_kernels(self, **settings: Any) -> pd.DataFrame:
        """Spectra of W_Q^T W_K and W_O W_V of every head (settings.spectra.AttentionKernel)."""
        from weight_atlas.families.pieces import load_gain, matrices
        from weight_atlas.settings.spectra import AttentionKernel
        from weight_atlas.spectra.attention_factors import norm_gains
        from weight_atlas.spectra.attention_table import attention_kernels

        wanted = checked(AttentionKernel, settings, "attention_kernels")
        gains = norm_gains(self.inventory, partial(load_gain, self.checkpoint)) if wanted.fold_norm else None
        return attention_kernels(
            matrices(self.inventory), self._load, gains=gains, scaled=wanted.scaled, threads=self.threads
        )

    def embedding_geometry(self, **settings: Any) -> pd.DataFrame:
        """Norms, isotropy and smoothness of every embedding (settings.embeddings.EmbeddingGeometry)."""
        from weight_atlas.embeddings.geometry import embedding_table, embeddings_of
        from weight_atlas.families.pieces import matrices
        from weight_atlas.settings.embeddings import EmbeddingGeometry

        wanted = checked(EmbeddingGeometry, settings, "embedding_geometry")
        return embedding_table(embeddings_of(matrices(self.inventory), self._load, wanted))

    def projection_pca(self, **settings: Any) -> pd.DataFrame:
        """Principal components of projections and their heads (settings.embeddings.ProjectionPca)."""
        from weight_atlas.embeddings.projections import component_table, projections
        from weight_atlas.families.pieces import matrices
        from weight_atlas.settings.embeddings import ProjectionPca

        wanted = checked(ProjectionPca, settings, "projection_pca")
        return component_table(projections(matrices(self.inventory), self._load, wanted.roles), wanted)

    def head_similarity(self, **settings: Any) -> pd.DataFrame:
        """The heads of each layer by what they compute: clusters, the nearest (settings.embeddings.HeadSimilarity)."""
        from weight_atlas.embeddings.heads import compared_layers, head_table
        from weight_atlas.families.pieces import matrices
        from weight_atlas.settings.embeddings import HeadSimilarity

        wanted = checked(HeadSimilarity, settings, "head_similarity")
        return head_table(compared_layers(matrices(self.inventory), self._load), wanted.least_cosine)

    def findings(self, **settings: Any) -> list[dict[str, Any]]:
        """What statistics, profiles, sparsity, ranks and heavy tails say that is worth knowing first (findings.gather).

        settings: of heavy_tails.
        """
        from weight_atlas.findings.gather import findings_of

        tables = {"tensor_inventory": self.inventory, "weight_statistics": self.statistics()}
        tables |= {"weight_profile": self.profile(), "sparsity": self.sparsity()}
        tables |= {"effective_rank": self.effective_rank()}
        return findings_of({**tables, "heavy_tail": self.heavy_tails(**settings)})

    def head_composition(self) -> pd.DataFrame:
        """Q-, K- and V-composition of all pairs of heads, beside random orientations (circuits.composition)."""
        from weight_atlas.circuits.of_checkpoint import scores_of

        scores = scores_of(self.checkpoint, self.inventory, threads=self.threads)
        return pd.concat(scores.frames(), ignore_index=True)

    def super_weight_screening(self, **settings: Any) -> pd.DataFrame:
        """Candidates for super weights from the weights alone (settings.super_weights.SuperWeightScreening)."""
        from weight_atlas.settings.super_weights import SuperWeightScreening
        from weight_atlas.super_weights.screening import screen

        wanted = checked(SuperWeightScreening, settings, "super_weight_screening")
        return screen(self.inventory, self._load, top=wanted.top)

    @property
    def _load(self) -> Callable[[Any], Any]:
        from weight_atlas.families.pieces import load_piece

        return partial(load_piece, self.checkpoint)

    @cached_property
    def _readings(self) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
        """Parts of the tables of histograms and profiles, from one reading of the weights."""
        from weight_atlas.families.pieces import load_piece
        from weight_atlas.weights.histogram_table import histogram_parts
        from weight_atlas.weights.profile_table import ProfileParts
        from weight_atlas.weights.streaming import portions, readings, warned

        profiles: list[pd.DataFrame] = []
        work = portions(self.inventory, self.checkpoint, load_piece)
        read = ProfileParts(self.inventory, profiles.append).passing(warned(readings(work, self.threads)))
        return list(histogram_parts(self.inventory, read)), profiles

    @cached_property
    def _spectra(self) -> pd.DataFrame:
        from weight_atlas.families.pieces import matrices
        from weight_atlas.spectra.table import in_inventory_order, singular_value_table

        table = singular_value_table(matrices(self.inventory), self._load, threads=self.threads, device=self.device)
        return in_inventory_order([table], self.inventory)
