"""The types of all units that fit a size with the least error: a multiple-choice knapsack, solved to a stated gap."""

from dataclasses import dataclass

import numpy as np

from weight_atlas.errors import AtlasError

GAP = 1e-4  # relative, between the error found and the least that is possible


@dataclass(frozen=True)
class Allocation:
    """chosen: the column of each unit's type. gap: how much larger the error is than the least possible, at most."""

    chosen: np.ndarray
    gap: float


def allocate(sizes: np.ndarray, errors: np.ndarray, budget: float) -> Allocation:
    """Choose a type for each unit with the least sum of errors, sizes adding up to no more than the budget.

    sizes, errors: (units, types), not finite where a unit cannot have a type. An AtlasError where nothing fits.
    """
    possible = np.isfinite(sizes) & np.isfinite(errors)
    if not possible.any(axis=1).all():
        raise AtlasError(f"unit {int(np.argmin(possible.any(axis=1)))} can have no type")
    smallest = np.where(possible, sizes, np.inf).min(axis=1).sum()
    if smallest > budget:
        raise AtlasError(f"{budget:g} is less than the smallest size, {smallest:g}")
    best = np.where(possible, errors, np.inf).argmin(axis=1)
    if _sum(sizes, best) <= budget:
        return Allocation(best, 0.0)
    return _solved(sizes, errors, possible, budget)


def _solved(sizes: np.ndarray, errors: np.ndarray, possible: np.ndarray, budget: float) -> Allocation:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    unit, kind = np.nonzero(possible)
    scale, places = errors[possible].max() or 1.0, np.arange(len(unit))
    one_each = csr_array((np.ones(len(unit)), (unit, places)), shape=(len(sizes), len(unit)))
    # The solver allows a relative violation of about 1e-6: where it uses it, a little less is asked for.
    for slack in (0.0, 1e-6, 1e-5, 1e-4):
        room = LinearConstraint((sizes[possible] / budget).reshape(1, -1), -np.inf, 1 - slack)
        found = milp(
            errors[possible] / scale,
            integrality=np.ones(len(unit)),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(one_each, 1, 1), room],
            options={"mip_rel_gap": GAP},
        )
        if found.x is None:
            break
        chosen = np.zeros(len(sizes), dtype=np.int64)
        taken = found.x > 0.5
        chosen[unit[taken]] = kind[taken]
        if _sum(sizes, chosen) <= budget:
            bound, error = found.mip_dual_bound * scale, _sum(errors, chosen)
            return Allocation(chosen, max(0.0, float(error / bound - 1)) if bound > 0 else 0.0)
    cheapest = np.where(possible, sizes, np.inf).argmin(axis=1)
    return Allocation(cheapest, float("inf"))


def _sum(values: np.ndarray, chosen: np.ndarray) -> float:
    return float(values[np.arange(len(values)), chosen].sum())
