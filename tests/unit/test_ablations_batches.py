"""Out of memory: half the batch, said so, down to one."""

import pytest
import torch

from weight_atlas.ablations.batches import first_batch, halving
from weight_atlas.errors import AtlasError
from weight_atlas.live.memory import out_of_memory_explained


def limited(to, error):
    sizes = []

    def run(size):
        sizes.append(size)
        if size > to:
            raise error
        return sum(sizes)

    return run, sizes


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("[enforce fail] can't allocate memory")],
)
def test_the_batch_is_halved_until_it_fits(error, capsys):
    run, sizes = limited(10, error)
    assert halving(run, 64) == (sum(sizes), 8)
    assert sizes == [64, 32, 16, 8]
    assert "out of memory with a batch of 16: going on with 8" in capsys.readouterr().out


def test_a_batch_of_one_is_tried():
    run, sizes = limited(1, MemoryError())
    assert halving(run, 4)[1] == 1 and sizes == [4, 2, 1]


def test_an_explained_error_is_seen_through():
    def run(size):
        with out_of_memory_explained("here"):
            if size > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert halving(run, 4) == ("done", 2)


def test_a_batch_of_one_that_does_not_fit_is_an_error():
    with pytest.raises(AtlasError, match="with a batch of one"):
        halving(limited(0, MemoryError())[0], 4)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), AtlasError("no such weight")])
def test_other_errors_pass(error):
    with pytest.raises(type(error), match=str(error)):
        halving(limited(0, error)[0], 4)


def test_first_sizes():
    assert (first_batch("cuda"), first_batch("cpu"), first_batch("cuda", 3)) == (64, 16, 3)
