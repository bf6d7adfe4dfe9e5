"""How much memory one forward pass may take, and the message where it runs out.

The bounds are constants, the same on every machine: how many windows go through a model together follows from them and
from the model's sizes, never from free memory or the number of cores. `batch_size` of a step is a maximum on top. What
depends on the machine is only whether memory suffices at all; see ablations.batches for what then happens.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from weight_atlas.errors import AtlasError, first_line

# Logits that the head makes at one time. With fewer rows to a product, reading the head's weights takes most of it.
LOGITS = 1 << 25
# Logits whose functions are computed at one time: these take a few times as much, and stay near the processor.
COMPARED = 1 << 22
# Bytes that the activations of one layer may take, beside the model itself.
ACTIVATIONS = 1 << 28


def batch_within(most: int, bytes_each: int) -> int:
    """How many windows, of at most `most`, go through a layer together if one takes so many bytes; at least one."""
    return max(1, min(most, ACTIVATIONS // max(1, bytes_each)))


@contextmanager
def out_of_memory_explained(where: object) -> Iterator[None]:
    """Turn the several ways in which memory runs out into one message."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise AtlasError(
            f"out of memory: {first_line(error)}",
            where=where,
            remedy="lower batch_size or window, take dtype bfloat16, or give the step more GPUs or memory",
        ) from error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the machine."""
    said = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in said
        or "not enough memory" in said
    )
