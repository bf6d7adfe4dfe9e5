"""Work of a step, counted: passes of windows through the layers and the head, and what it does beside."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from weight_atlas.costs.sizes import Sizes


class Passes(NamedTuple):
    """Windows that go through the model.

    tokens: through all layers; of passes that begin at a later layer, the like share. window: tokens in a window, which
    attend to each other. calls: how often the layers are called, with as many windows at once as go together. head:
    positions whose logits are made. functions: what is computed of these, in units of a log-likelihood. kept: how many
    times the attention weights themselves are made and looked through. backward: whether gradients are taken as well.
    """

    tokens: float
    window: float
    calls: float
    head: float = 0.0
    functions: float = 1.0
    kept: float = 0.0
    backward: bool = False


@dataclass(frozen=True)
class Work:
    """passes; loads: how often the model is opened, in a process of its own; rounded: weights that are rounded to a
    format and put back; swept: weights that are read through once, with products and sorting; seconds: of other work,
    on the machine that the constants were measured on.
    """

    passes: tuple[Passes, ...] = ()
    loads: float = 1.0
    rounded: float = 0.0
    swept: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.passes + other.passes,
            self.loads + other.loads,
            self.rounded + other.rounded,
            self.swept + other.swept,
            self.seconds + other.seconds,
        )

    def times(self, factor: float) -> "Work":
        """The same, so many times; of part of it for a factor below 1."""
        passes = tuple(
            each._replace(tokens=each.tokens * factor, calls=each.calls * factor, head=each.head * factor)
            for each in self.passes
        )
        return replace(
            self, passes=passes, loads=self.loads * factor, rounded=self.rounded * factor, swept=self.swept * factor,
            seconds=self.seconds * factor,
        )  # fmt: skip


NOTHING = Work(loads=0.0)
# A backward pass makes two products for each of the forward pass.
BACKWARD = 3.0


def flops(sizes: Sizes, passes: Passes) -> float:
    """Floating-point operations of the products of some passes: a multiplication and an addition are two.

    Of matrices 2 a weight and token; of attention 4 T a token and query channel (Q K^T and its product with V, masked
    positions included); of the head 2 V d_model a position (Kaplan et al. 2020, arXiv 2001.08361, appendix B).
    """
    layers = passes.tokens * (2.0 * sizes.products + 4.0 * passes.window * sizes.queries)
    head = 2.0 * passes.head * sizes.vocabulary * sizes.d_model
    return (BACKWARD if passes.backward else 1.0) * (layers + head)
