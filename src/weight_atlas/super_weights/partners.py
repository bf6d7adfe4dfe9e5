"""Weights that a harmful weight works through, as promises that their removal does the same harm.

What a scalar does passes through others: the gain that lets its input in, the neuron's weights before and behind it,
the value that a head writes, the key that answers a query. Where a softmax is saturated or two contributions balance,
the first-order effect of such a partner is nothing and its size may be ordinary, so that no list names it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import part_at, place_of, same_matrix
from weight_atlas.live.parts import Part
from weight_atlas.super_weights.outliers import Promise

INTO = (Role.W_GATE, Role.W_UP)
# Roles whose columns are channels of the residual stream.
READERS = (Role.W_Q, Role.W_K, Role.W_V, *INTO, Role.W_ROUTER, Role.W_U)
# Roles that a weight of a head works through.
THROUGH = {Role.W_O: (Role.W_V,), Role.W_V: (Role.W_O,), Role.W_Q: (Role.W_K,), Role.W_K: (Role.W_Q,)}


def partners(live: Anatomy, place: Coordinate) -> list[Promise]:
    """The weights next to a single weight in the computation: of each line that it meets the largest, and gains."""
    part = part_at(live, place)
    found = list(_gains(live, part, place))
    if part.role in (*INTO, Role.W_DOWN) and part.layer is not None:
        found += _of_neuron(live, part, place)
    elif part.role in THROUGH:
        found += _of_head(live, part, place)
    return [Promise(each, "element", "partner", None) for each in dict.fromkeys(found)]


def works_through(live: Anatomy, place: Coordinate, among: Sequence[Coordinate]) -> set[Coordinate]:
    """Those of some weights without which a weight does nothing: its partners, and theirs, of other matrices."""
    found: set[Coordinate] = set()
    due = [place]
    while due:
        for each in (promise.place for promise in partners(live, due.pop())):
            if each in among and each not in found and not same_matrix(live, each, place):
                found.add(each)
                due.append(each)
    return found


def _gains(live: Anatomy, part: Part, place: Coordinate) -> Iterator[Coordinate]:
    """The gains of the layer's norms, or the final norm's, for the channel that a weight reads."""
    if part.role in READERS:
        for norm in live.parts_of(Role.NORM, part.layer, None, None):
            if norm.shape[0] == live.d_model:
                yield replace(place_of(live, norm), row=place.col, col=0)


def _of_neuron(live: Anatomy, part: Part, place: Coordinate) -> Iterator[Coordinate]:
    row, col = place.cell
    neuron = col if part.role == Role.W_DOWN else row
    others = [role for role in (*INTO, Role.W_DOWN) if role != part.role]
    for each in (each for role in others for each in _siblings(live, part, role)):
        yield _largest(live, each, [neuron], by_row=each.role != Role.W_DOWN)
    for bias in _siblings(live, part, Role.BIAS):
        if bias.of_role in INTO:
            yield replace(place_of(live, bias), row=neuron, col=0)


def _of_head(live: Anatomy, part: Part, place: Coordinate) -> Iterator[Coordinate]:
    """The largest weights of the lines of its head, or of the heads of its group, at the same place within the head."""
    row, col = place.cell
    line = col if part.role == Role.W_O else row
    own = part.head_dim
    for role in THROUGH[part.role]:
        for other in live.parts_of(role, part.layer, None, None):
            if own is None or other.head_dim != own:
                continue
            heads, others = (_lines(each) // own for each in (part, other))
            # Query heads share those of keys and values in groups, in order.
            first, last = line // own * others // heads, max(1, others // heads)
            lines = [(first + number) * own + line % own for number in range(last)]
            yield _largest(live, other, lines, by_row=role != Role.W_O)
            for bias in live.parts_of(Role.BIAS, part.layer, None, None):
                if bias.of_role == role and role != Role.W_O:
                    yield from (replace(place_of(live, bias), row=at, col=0) for at in lines)


def _lines(part: Part) -> int:
    """Rows that heads share, of W_O columns."""
    return part.shape[1] if part.role == Role.W_O else part.shape[0]


def _siblings(live: Anatomy, part: Part, role: Role) -> Sequence[Part]:
    """The parts of a role in the same MLP or expert."""
    return [each for each in live.parts_of(role, part.layer, part.expert, None) if each.component == part.component]


def _largest(live: Anatomy, part: Part, lines: Sequence[int], *, by_row: bool) -> Coordinate:
    """The largest weight on some rows or columns of a matrix."""
    values = part.values()
    found = (values[lines] if by_row else values[:, lines].T).float().abs()
    at, other = divmod(int(found.argmax()), found.shape[1])
    row, col = (lines[at], other) if by_row else (other, lines[at])
    return replace(place_of(live, part), row=row, col=col)
