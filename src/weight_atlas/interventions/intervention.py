"""An intervention: one reversible change of a model, what it is made for, and on how much text it is measured."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from weight_atlas.errors import AtlasError
from weight_atlas.interventions.changes import Change, Edits
from weight_atlas.interventions.kinds import BASELINE, KINDS
from weight_atlas.live.anatomy import Anatomy


class Impossible(Exception):
    """A kind of change that makes no sense on this model; the message says why."""


class Refused(AtlasError):
    """An intervention that cannot be made on this model; others may."""


@dataclass(frozen=True)
class Intervention:
    """One change of a model. Interventions with equal changes are measured once.

    kind: of kinds.KINDS. target: number of the weight that it is made for, None for all together. draw: number of a
    random draw, from 1; 0 where nothing is drawn. windows: how many, from the first on, it is measured on; None takes
    all. name: for tables; by default the places of the change. magnitude_ratio: of weights set to zero, the sum of |w|
    over that of the weights in question.
    """

    kind: str
    change: Change = field(default_factory=Edits)
    target: int | None = None
    draw: int = 0
    windows: int | None = None
    name: str = ""
    magnitude_ratio: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of intervention")
        if not self.name:
            places = " + ".join(map(str, self.change.places))
            object.__setattr__(self, "name", places or "unchanged")


UNCHANGED = Intervention(BASELINE)


@contextmanager
def applied(live: Anatomy, intervention: Intervention) -> Iterator[None]:
    """Make an intervention while the block lasts; afterwards the model is as it was, bit for bit.

    Raises Refused where the model does not allow the change.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(intervention.change.applied(live))
        except AtlasError as error:
            raise Refused(error.what, where=error.where, remedy=error.remedy) from error
        yield
