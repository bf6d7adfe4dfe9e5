"""What a part of a streamed model measures, with the functions that the steps of other models call on all of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from weight_atlas.families.pieces import load_gain, load_piece, matrices
from weight_atlas.settings.quantization import QuantizationMeasures
from weight_atlas.settings.spectra import AttentionKernel
from weight_atlas.settings.super_weights import SuperWeightScreening
from weight_atlas.settings.weights import MatrixWindows, Sparsity
from weight_atlas.spectra.choice import choose_matrices
from weight_atlas.streamed.tables import POSITION, STEPS
from weight_atlas.weights.histogram_table import histogram_parts
from weight_atlas.weights.matrix_windows import rows_of, values_of, window_places
from weight_atlas.weights.profile_table import ProfileParts
from weight_atlas.weights.streaming import portions, profiled, readings, warned
from weight_atlas.weights.structured_sparsity import near_methods, structure

if TYPE_CHECKING:
    from weight_atlas.checkpoint.checkpoint import Checkpoint
    from weight_atlas.streamed.plan import Unit

Frames = dict[str, list[pd.DataFrame]]


@dataclass(frozen=True)
class Measures:
    """What is measured. steps: of tables.STEPS, those that are wanted beside value_histogram; the rest: settings."""

    steps: list[str]
    attention: AttentionKernel
    quantization: QuantizationMeasures
    screening: SuperWeightScreening
    sparsity: Sparsity
    windows: MatrixWindows


class Work:
    """Measures units of work on a checkpoint whose tensors are at hand.

    inventory: of the whole model. device: where spectra are computed.
    """

    def __init__(
        self, checkpoint: "Checkpoint", inventory: pd.DataFrame, measures: Measures, *, threads: int, device: str
    ):
        self._checkpoint, self._inventory, self._measures = checkpoint, inventory, measures
        self._threads, self._device, self._steps = threads, device, set(measures.steps)
        self._position = {name: place for place, name in enumerate(inventory["id"])}
        self._load: Callable[[Any], Any] = partial(load_piece, checkpoint)
        two_dimensional = profiled(inventory)
        budget = measures.sparsity.near_rows_budget
        self._near = near_methods(two_dimensional, budget) if "sparsity" in self._steps else {}
        wanted = measures.windows.windows if "weight_profile" in self._steps else []
        by_id = two_dimensional.set_index("id", drop=False)
        self._windows = list(enumerate(window_places(by_id, wanted, choose_matrices)))

    def measure(self, ready: Iterable["Unit"]) -> dict[str, pd.DataFrame]:
        """The rows of each table that units of work give, by the table's name; tables without rows are left out."""
        ready = list(ready)
        found: Frames = {name: [] for name in STEPS}
        tensors = self._inventory[
            self._inventory["tensor"].isin([each.what for each in ready if each.kind == "tensor"])
        ]
        if len(tensors):
            self._values(tensors, found)
        attention = {each.what for each in ready if each.kind == "attention"}
        if attention:
            self._kernels(attention, found)
        projections = [each.what for each in ready if each.kind == "projection"]
        if projections:
            self._screened(projections, found)
        full = {name: [frame for frame in frames if len(frame)] for name, frames in found.items()}
        return {name: pd.concat(frames, ignore_index=True) for name, frames in full.items() if frames}

    def _values(self, tensors: pd.DataFrame, found: Frames) -> None:
        gathered = ProfileParts(tensors, found["profiles"].append)
        read = readings(portions(tensors, self._checkpoint, load_piece), self._threads)
        found["histograms"] += histogram_parts(tensors, gathered.passing(warned(read)))
        weights = matrices(tensors)
        if "singular_values" in self._steps and len(weights):
            from weight_atlas.spectra.table import singular_value_table

            found["spectra"].append(
                singular_value_table(weights, self._load, threads=self._threads, device=self._device)
            )
        if "quantization_sensitivity" in self._steps:
            self._quantized(weights, found)
        if "sparsity" in self._steps:
            found["structures"].append(structure(profiled(tensors), self._load, self._near))
        for name in ("histograms", "profiles", "spectra", "errors", "channels", "structures"):
            found[name] = [frame.assign(**{POSITION: frame["id"].map(self._position)}) for frame in found[name]]
        here = set(tensors["tensor"])
        inside = [(number, place) for number, place in self._windows if place[0].tensor in here]
        seen = rows_of(values_of([place for _, place in inside], self._load))
        found["window_values"].append(seen.assign(**{POSITION: [number for number, _ in inside]}))

    def _quantized(self, weights: pd.DataFrame, found: Frames) -> None:
        from weight_atlas.quantization.sensitivity import DISTRIBUTION, IDENTITY, quantization_sensitivity

        parts = (frame[[*IDENTITY, *DISTRIBUTION]] for frame in found["histograms"])
        rows = {row.id: row for row in weights.itertuples(index=False)}
        measured = quantization_sensitivity(parts, rows, self._load, self._measures.quantization, self._threads)
        found["errors"].append(measured.errors)
        found["channels"].append(measured.channels)

    def _kernels(self, blocks: set[tuple[str, int, str]], found: Frames) -> None:
        from weight_atlas.spectra.attention_factors import ROLES, norm_gains
        from weight_atlas.spectra.attention_table import attention_kernels

        weights = matrices(self._inventory)
        layers = weights["layer"].fillna(-1).astype(int)
        keys = list(zip(weights["stack"], layers, weights["component"], strict=True))
        inside = pd.Series([key in blocks for key in keys], index=weights.index) & weights["role"].isin(ROLES)
        gains = None
        if self._measures.attention.fold_norm:
            wanted = {(stack, layer) for stack, layer, _ in blocks}
            places = zip(self._inventory["stack"], self._inventory["layer"].fillna(-1).astype(int), strict=True)
            beside = self._inventory[[place in wanted for place in places]]
            gains = norm_gains(beside, lambda row: load_gain(self._checkpoint, row))
        kernels = attention_kernels(
            weights[inside], self._load, gains=gains, scaled=self._measures.attention.scaled, threads=self._threads
        )
        first = {key: self._position[name] for key, name in zip(keys[::-1], weights["id"][::-1], strict=True)}
        of_rows = zip(kernels["stack"], kernels["layer"], kernels["component"], strict=True)
        found["kernels"].append(kernels.assign(**{POSITION: [first[key] for key in of_rows]}))

    def _screened(self, projections: list[str], found: Frames) -> None:
        from weight_atlas.super_weights.screening import screen

        feeding = self._inventory["role"].isin(["W_gate", "W_up"])
        chosen = self._inventory[feeding | self._inventory["id"].isin(projections)]
        largest = screen(chosen, self._load, top=self._measures.screening.top)
        of_row = {(row.tensor, _number(row.expert)): self._position[row.id] for row in chosen.itertuples()}
        places = [of_row[row.tensor, _number(row.expert)] for row in largest.itertuples()]
        found["screened"].append(largest.assign(**{POSITION: places}))


def _number(expert: Any) -> int:
    return -1 if pd.isna(expert) else int(expert)
