"""What each type would cost each unit: its size, and the share of the output's energy that becomes noise."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from weight_atlas.inventory_row import Load
from weight_atlas.quantization import kernels
from weight_atlas.quantization.recipes.rounded import rounded_rows, source_of
from weight_atlas.quantization.recipes.types import StoredType
from weight_atlas.quantization.recipes.units import Unit
from weight_atlas.quantization.rounding import Rows

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Costs:
    """sizes: bits, and noise: sum h (w - q)^2 over sum h w^2, of every unit and type (units, types); inf where a unit
    cannot have the type. bases: what h is, of every unit. weights: how many every unit has.
    """

    sizes: np.ndarray
    noise: np.ndarray
    bases: list[str]
    weights: np.ndarray


def unit_costs(
    units: Sequence[Unit],
    types: Sequence[StoredType],
    rows: Mapping[str, Any],
    load: Load,
    importance: Callable[[Any], tuple[np.ndarray | None, str]],
    pool: Executor,
) -> Costs:
    """Measure every type on every matrix, each read once.

    rows: id -> what load() takes. importance(row): the second moment of each input channel, up to a factor, and what it
    comes from; None: all alike. Channels without any weight say nothing of a matrix whose other channels have none.
    """
    shape = (len(units), len(types))
    sizes, errors, energies = np.zeros(shape), np.zeros(shape), np.zeros(len(units))
    bases: list[list[str]] = [[] for _ in units]
    weights = np.zeros(len(units), dtype=np.int64)
    for number, unit in enumerate(units):
        for name in unit.ids:
            tensor = load(rows[name])
            height, width = tensor.shape
            h, base = importance(rows[name])
            if h is None or len(h) != width or not np.isfinite(h).all() or not h.any():
                h, base = np.ones(width), "nothing"
            possible = [kind for kind in range(len(types)) if types[kind].fits(width)]
            noise, energy = _noise(tensor, [types[kind] for kind in possible], h / h.mean(), pool)
            sizes[number, possible] += [types[kind].size(height, width) for kind in possible]
            errors[number, possible] += noise
            forbidden = [kind for kind in range(len(types)) if kind not in possible]
            sizes[number, forbidden] = np.inf
            energies[number] += energy
            weights[number] += height * width
            bases[number].append(base)
    with np.errstate(invalid="ignore", divide="ignore"):
        noise_shares = np.where(energies[:, None] > 0, errors / energies[:, None], 0.0)
    noise_shares[np.isinf(sizes)] = np.inf
    return Costs(sizes, noise_shares, [" and ".join(dict.fromkeys(each)) for each in bases], weights)


def _noise(
    tensor: "torch.Tensor", types: Sequence[StoredType], h: np.ndarray, pool: Executor
) -> tuple[np.ndarray, float]:
    """The weighted squared error of each type, and the weighted energy."""
    source = source_of(tensor)

    def work(chunk: slice) -> np.ndarray:
        rows = Rows(source.rows(chunk.start, chunk.stop), source.extent)
        sums = np.empty((len(types), len(rows.weights), 2))
        for number, kind in enumerate(types):
            kernels.weighted_sums(rows.weights, np.ascontiguousarray(rounded_rows(rows, kind)), h, sums[number])
        return sums

    sums = np.concatenate(list(pool.map(work, source.chunks())), axis=1)
    errors = [float(kernels.total(part[:, 0].copy(), part.shape[0])) for part in sums]
    return np.array(errors), float(kernels.total(sums[0][:, 1].copy(), sums.shape[1]))
