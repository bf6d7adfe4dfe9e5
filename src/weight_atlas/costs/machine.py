"""How fast this machine computes: a short probe, and what the parts of a step cost beside matrix products."""

import os
import time
from dataclasses import dataclass

from weight_atlas.costs.sizes import Sizes
from weight_atlas.costs.work import BACKWARD, Passes, Work, flops

# Measured on one core of an AMD EPYC (Zen 5) in float32, by runs of the steps on models of 1.3 M, 124 M and 1.2 B
# parameters; on another machine they change with the probe. Products of numpy are somewhat faster than those of a
# model's layers: a share of their rate is what a forward pass reaches.
REFERENCE_RATE = 1.0e11
REACHED = 0.85
# Seconds of one core: to start a process with torch and transformers, and to read and compare a stored parameter.
START, LOADED = 5.0, 6.0e-9
# An output of a matrix for a token: activations, norms, copies; a call of a layer, whose operations have to be started.
WIDTH, CALL = 1.5e-9, 4.0e-4
# A logit and its share of a softmax; an attention weight that is made and looked through; a weight that is rounded to a
# format; one whose product with its gradient is made and compared.
LOGIT, KEPT, ROUNDED, SWEPT = 3.0e-9, 5.0e-9, 1.2e-8, 1.5e-8


@dataclass(frozen=True)
class Machine:
    """rate: float32 operations a second of matrix products on one core. cores: those that a run may use."""

    rate: float
    cores: int

    def seconds(self, sizes: Sizes, work: Work) -> float:
        """CPU seconds that some work takes on a model."""
        slower = REFERENCE_RATE / self.rate
        total = work.loads * (START + LOADED * sizes.stored) + work.seconds
        total += ROUNDED * work.rounded + SWEPT * work.swept
        for passes in work.passes:
            total += self._beside(sizes, passes)
            total += flops(sizes, passes) / (REACHED * REFERENCE_RATE)
        return slower * total

    def _beside(self, sizes: Sizes, passes: Passes) -> float:
        """Seconds of the reference machine that some passes take beside products of matrices."""
        times = BACKWARD if passes.backward else 1.0
        layers = times * (WIDTH * passes.tokens * sizes.widths + CALL * passes.calls * sizes.depth)
        attention = KEPT * passes.kept * passes.tokens * passes.window * sizes.heads
        return layers + attention + times * LOGIT * passes.functions * passes.head * sizes.vocabulary


def probe(cores: int | None = None, width: int = 1024) -> Machine:
    """Time a product of float32 matrices on one core, which takes a tenth of a second; the fastest of three counts."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    left, right = (np.full((width, width), value, np.float32) for value in (0.5, 0.25))
    with threadpool_limits(1):
        left @ right  # the first one makes threads and buffers
        spent = []
        for _ in range(3):
            start = time.thread_time()
            left @ right
            spent.append(time.thread_time() - start)
    return Machine(2.0 * width**3 / max(min(spent), 1e-9), cores or os.cpu_count() or 1)
