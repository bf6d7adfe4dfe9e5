"""The estimated cost of a configuration's steps that run models, as numbers and as a text."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weight_atlas.ablations.choices import Choices
from weight_atlas.artifacts import read_json
from weight_atlas.costs.machine import Machine
from weight_atlas.costs.plan import Planned, planned
from weight_atlas.costs.sizes import Sizes, known_sizes
from weight_atlas.costs.steps import STEPS, Found, Unforeseen
from weight_atlas.costs.work import Work
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.settings.analyses import ANALYSES
from weight_atlas.workflow.selection import Selection

# Super weights that are assumed where a model's are not known yet: none, one, and what each further one adds.
ASSUMED = (Found(0), Found(1), Found(2))


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one step on a model, for each number of super weights asked about; None where nobody can say.

    reason: why not.
    """

    step: str
    seconds: tuple[float, ...] | None
    reason: str = ""


@dataclass(frozen=True)
class Estimate:
    """Of one model. sizes: None where they are not known, and `reason` says why.

    found: the numbers of super weights that the costs are for; known: whether they have been looked for already.
    """

    model: str
    effort: str
    sizes: Sizes | None
    found: tuple[Found, ...]
    known: bool
    costs: tuple[Cost, ...]
    reason: str = ""

    def total(self) -> tuple[float, ...]:
        """CPU seconds of all steps together, as far as they are known."""
        known = [cost.seconds for cost in self.costs if cost.seconds is not None]
        return tuple(map(sum, zip(*known, strict=True))) if known else tuple(0.0 for _ in self.found)

    def longest(self) -> tuple[float, ...]:
        """CPU seconds of the detection and the longest step after it, which no number of cores shortens."""
        known = {cost.step: cost.seconds for cost in self.costs if cost.seconds is not None}
        first = known.pop("super_weights", tuple(0.0 for _ in self.found))
        return tuple(
            start + max((each[number] for each in known.values()), default=0.0) for number, start in enumerate(first)
        )


def estimates(
    config: dict[str, Any], machine: Callable[[], Machine], due: Collection[tuple[str, ...]] | None = None
) -> list[Estimate]:
    """Estimate the steps that run the models of a checked configuration, one Estimate for each model that has any.

    due: (step, model, *of) of those that are to be run; None: all of them. machine: asked for once it is needed.
    """
    selection, choices = Selection(config, ANALYSES), Choices(config)
    found = []
    for model in config["models"]:
        steps = [
            each
            for each in planned(config, model, selection, choices)
            if due is None or (each.step, model, *each.of) in due
        ]
        if steps:
            found.append(_estimate(config, model, steps, machine))
    return found


def _estimate(config: dict[str, Any], model: str, steps: Sequence[Planned], machine: Callable[[], Machine]) -> Estimate:
    results, entry = Path(config["pathvars"]["results"]), config["models"][model]
    known = _looked_for(results / f"super_weights/{model}.json")
    found = ASSUMED if known is None else (known,)
    manifest, listed = (results / name for name in (f"checkpoints/{model}.json", f"tensor_inventory/{model}.parquet"))
    try:
        sizes = known_sizes(entry, manifest, listed)
    except AtlasError as error:  # the step that reads it says it as well
        return Estimate(model, entry["effort"], None, found, known is not None, (), error.what)
    if sizes is None:
        reason = "unknown until it is fetched"
        return Estimate(model, entry["effort"], None, found, known is not None, (), reason)
    costs = tuple(_costs(sizes, steps, found, machine()))
    return Estimate(model, entry["effort"], sizes, found, known is not None, costs)


def _looked_for(path: Path) -> Found | None:
    """The super weights that an earlier run has found in a model."""
    try:
        records = read_json(path)["super_weights"] if path.is_file() else None
    except (AtlasError, NotApplicable, KeyError):
        return None
    if records is None:
        return None
    return Found(len(records), min((each["layer"] for each in records), default=1))


def _costs(sizes: Sizes, steps: Sequence[Planned], found: Sequence[Found], machine: Machine) -> Iterable[Cost]:
    grouped: dict[str, list[Planned]] = defaultdict(list)
    for each in steps:
        grouped[each.step].append(each)
    for step, several in grouped.items():
        try:
            works: list[list[Work]] = [[STEPS[step](sizes, each.settings, some) for each in several] for some in found]
        except Unforeseen as reason:
            yield Cost(step, None, str(reason))
            continue
        yield Cost(step, tuple(sum(machine.seconds(sizes, work) for work in each) for each in works))


def as_text(found: Sequence[Estimate], machine: Machine) -> str:
    """Tables of CPU seconds, and the time on the cores that there are."""
    lines = [
        "Steps that run a model, in CPU seconds, estimated for this machine's processor "
        f"({machine.rate / 1e9:.0f} GFLOP/s a core); a GPU takes far less:"
    ]
    for each in found:
        lines += ["", *_table(each, machine)] if each.sizes else ["", f"{each.model}: {each.reason}"]
    return "\n".join(lines)


def _table(estimate: Estimate, machine: Machine) -> list[str]:
    assert estimate.sizes is not None
    number = estimate.found[0].count
    heads = [f"{number} super weight{'' if number == 1 else 's'}"]
    heads = heads if estimate.known else ["no super weight", "one", "each more"]
    if not estimate.known and all(cost.seconds is None or len(set(cost.seconds)) == 1 for cost in estimate.costs):
        heads = ["CPU seconds"]  # whatever is found
    rows = [[cost.step, *_cells(cost.seconds, len(heads))] for cost in estimate.costs]
    rows.append(["together", *_cells(estimate.total(), len(heads))])
    cores = f"on {machine.cores} core{'' if machine.cores == 1 else 's'}"
    rows.append([cores, *(duration(each) for each in _steps_of(least(estimate, machine), len(heads)))])
    size = f"{estimate.sizes.stored / 1e6:,.0f} million parameters"
    lines = [f"{estimate.model} ({size}, effort {estimate.effort})"]
    widths = [max(len(row[column]) for row in [["", *heads], *rows]) for column in range(len(heads) + 1)]
    for row in [["", *heads], *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells))
    lines += [f"  {cost.step}: {cost.reason}" for cost in estimate.costs if cost.seconds is None]
    return lines


def least(estimate: Estimate, machine: Machine) -> list[float]:
    """Seconds that all steps of a model take on the cores, each of them being on one core."""
    shared = [total / machine.cores for total in estimate.total()]
    return [max(pair) for pair in zip(shared, estimate.longest(), strict=True)]


def _steps_of(values: Sequence[float], columns: int) -> list[float]:
    """What is shown of costs for none, one and two: the last as what it adds; or one number for all."""
    return [*values[:2], values[2] - values[1]] if columns == 3 else [values[0]]


def _cells(seconds: Sequence[float] | None, columns: int) -> list[str]:
    if seconds is None:
        return ["unknown"] * columns
    return [f"{each:,.0f}" for each in _steps_of(seconds, columns)]


def duration(seconds: float) -> str:
    """A time in words that leave out what an estimate does not know."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
