"""Layouts of fused tensors against the reshapes that models themselves write down."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weight_atlas.errors import AtlasError
from weight_atlas.families.layouts import (
    LAYOUTS,
    SHARINGS,
    Selection,
    extract,
    flat_shape,
    logical_shape,
    needed_rows,
    place,
)

selections = st.builds(
    lambda experts, by_rows, transposed, groups, sizes, heads: (experts, by_rows, transposed, groups, sizes, heads),
    st.sampled_from([0, 1, 3]), st.booleans(), st.booleans(), st.integers(1, 4),
    st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from([0, 2]),
)  # fmt: skip


def all_pieces(case: tuple, columns: int = 3) -> tuple[torch.Tensor, list[Selection]]:
    """A stored tensor with distinct values, and the selections that together cover it."""
    experts, by_rows, transposed, groups, sizes, heads = case
    if heads:
        sizes = [2 * heads * size for size in sizes]
    out = groups * sum(sizes)
    shape = (columns, out) if transposed else (out, columns)
    if experts:
        shape = (experts * shape[0], shape[1]) if by_rows else (experts, *shape)
    stored = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    numbers = range(experts) if experts else [None]
    return stored, [
        Selection(expert, experts, by_rows and bool(experts), transposed, groups, tuple(sizes), piece, heads)
        for expert in numbers
        for piece in range(len(sizes))
    ]


@given(selections)
def test_pieces_cover_the_stored_tensor_once(case):
    stored, chosen = all_pieces(case)
    rebuilt = torch.full_like(stored, -1)
    for selection in chosen:
        place(rebuilt, selection, extract(stored, selection))
    assert torch.equal(rebuilt, stored)
    values = torch.cat([extract(stored, selection).flatten() for selection in chosen])
    assert torch.equal(values.sort().values, stored.flatten())


@given(selections)
def test_rows_that_are_read_suffice(case):
    stored, chosen = all_pieces(case)
    for selection in chosen:
        rows, within = needed_rows(tuple(stored.shape), selection)
        part = stored if rows is None else stored[rows].clone()
        piece = extract(part, within)
        assert torch.equal(piece, extract(stored, selection))
        assert tuple(piece.shape) == logical_shape(tuple(stored.shape), selection)
        assert selection.expert is None or rows is not None


@given(selections)
def test_selections_survive_writing(case):
    for selection in all_pieces(case)[1]:
        assert Selection.decode(selection.encode()) == selection
    assert Selection().encode() == "" and Selection.decode("") == Selection()


def test_one_block_of_a_plain_tensor_is_read_alone():
    rows, within = needed_rows((128, 64), Selection(groups=1, sizes=(64, 32, 32), piece=1))
    assert (rows, within) == (slice(64, 96), Selection())


@pytest.mark.parametrize(
    ("sharing", "heads", "groups", "split"),
    [
        ("per_head", [4, 4, 4], None, lambda x: x.view(4, 3, 8).unbind(1)),
        ("grouped_heads", [4, 2, 2], None, lambda x: x.view(2, 4, 12).split([2, 1, 1], 1)),
        ("four_blocks", [4, 4, 4], None, lambda x: x.view(4, 3, 8).unbind(1)),
        ("interleaved", [None, None], None, lambda x: (x[::2], x[1::2])),
        ("halves", [None, None], None, lambda x: x.chunk(2)),
        ("blocks", [4, 2, 2], None, lambda x: x.split([48, 24, 24])),
        ("blocks", [None, None, None], None, lambda x: x.chunk(3)),
        ("grouped", [None, None], 6, lambda x: x.view(6, 2, 8).unbind(1)),
    ],
)
def test_sharings_split_as_models_do(sharing, heads, groups, split):
    stored = torch.arange(96.0)
    groups, sizes = SHARINGS[sharing](96, heads, groups)
    for number, wanted in enumerate(split(stored)):
        piece = extract(stored, Selection(groups=groups, sizes=tuple(sizes), piece=number))
        assert torch.equal(piece, wanted.reshape(-1))


def test_rotary_pairs_undo_the_permutation_of_llama_cpp():
    heads, width, columns = 3, 8, 5
    weight = torch.randn(heads * width, columns)
    stored = weight.reshape(heads, 2, width // 2, columns).swapaxes(1, 2).reshape(weight.shape)
    assert torch.equal(extract(stored, Selection(rotary_heads=heads)), weight)


@pytest.mark.parametrize(
    ("sharing", "total", "heads", "groups"),
    [
        ("per_head", 97, [4, 4, 4], None),
        ("per_head", 96, [None, None, None], None),
        ("grouped_heads", 96, [5, 2, 2], None),
        ("grouped_heads", 100, [4, 2, 2], None),
        ("blocks", 100, [4, 2, 1], None),
        ("halves", 97, [None, None], None),
        ("grouped", 96, [None, None], None),
    ],
)
def test_counts_that_do_not_divide_are_errors(sharing, total, heads, groups):
    with pytest.raises(AtlasError, match=r"divide|not known"):
        SHARINGS[sharing](total, heads, groups)


@pytest.mark.parametrize(
    ("shape", "flat"),
    [((), (1,)), ((3,), (3,)), ((1, 64), (1, 64)), ((8, 1, 4), (8, 4)), ((1, 1, 8), (8,)), ((4, 2, 3), (4, 6))],
)
def test_other_shapes_become_matrices_or_vectors(shape, flat):
    assert flat_shape(shape) == flat


def test_every_layout_is_documented():
    import weight_atlas.families.layouts as module

    assert all(f"\n{word} " in module.__doc__ for word in LAYOUTS)
