"""Run with a smaller batch where memory runs out."""

from collections.abc import Callable
from typing import TypeVar

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.live.memory import is_out_of_memory

Result = TypeVar("Result")
# Where the search for a batch size starts; it goes down by halves.
FIRST_BATCH = {"cuda": 64}
OTHER_BATCH = 16


def first_batch(device: str, batch_size: int | None = None) -> int:
    """The batch size to try first: the one given, else 64 on CUDA and 16 elsewhere."""
    return batch_size or FIRST_BATCH.get(device, OTHER_BATCH)


def halving(run: Callable[[int], Result], size: int) -> tuple[Result, int]:
    """Call run(size), after running out of memory with half the size, and so on; return its result and the size.

    Another batch size rounds sums differently: scores may differ in their last digits from those of a machine with more
    memory. The log says each time that a batch was halved. Raises AtlasError where a batch of one is too large; any
    other error passes through.
    """
    while True:
        try:
            return run(size), size
        except (RuntimeError, MemoryError, AtlasError) as error:
            if not _ran_out(error):
                raise
            if size <= 1:
                raise AtlasError(
                    "out of memory with a batch of one",
                    remedy="take dtype bfloat16, shorter windows or requests, or give the step more GPUs or memory",
                ) from error
        # Beyond the handler, the error's frames no longer hold the tensors that filled the memory.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(
            f"out of memory with a batch of {size}: going on with {size // 2}; scores may differ in the last digits",
            flush=True,
        )
        size //= 2


def _ran_out(error: BaseException | None) -> bool:
    """Whether an error, or the one behind an explained one, says that memory ran out."""
    if isinstance(error, AtlasError):
        return _ran_out(error.__cause__)
    return error is not None and (is_out_of_memory(error) or "out of memory" in str(error).lower())
