"""The table of types against torch and the safetensors package, which have tables of their own."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from weight_atlas.dtypes import BY_TORCH_NAME, COMPUTED, DTYPES


@pytest.mark.parametrize("name", sorted(name for name, dtype in DTYPES.items() if dtype.torch))
def test_a_type_is_what_safetensors_means_by_its_name(name):
    dtype, in_torch = DTYPES[name], getattr(torch, DTYPES[name].torch)
    file = safetensors.torch.save({"x": torch.zeros(8, dtype=torch.uint8).view(in_torch)})
    header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])
    assert header["x"]["dtype"] == name
    assert dtype.bits == 8 * in_torch.itemsize
    assert (dtype.kind == "float", dtype.kind == "complex") == (in_torch.is_floating_point, in_torch.is_complex)
    assert BY_TORCH_NAME[str(in_torch).removeprefix("torch.")] is dtype


def test_no_type_of_safetensors_is_missing():
    assert set(safetensors.torch._TYPES) <= set(DTYPES)
    assert {name for name, dtype in DTYPES.items() if not dtype.torch} == {"F4", "F6_E2M3", "F6_E3M2"}


def test_elements_are_viewed_in_numpy_at_their_own_width():
    viewed = [dtype for dtype in DTYPES.values() if dtype.numpy]
    assert len(viewed) == len(DTYPES) - 4  # less than a byte, and complex
    for dtype in viewed:
        assert 8 * np.dtype(dtype.numpy).itemsize == dtype.bits
        if dtype.by_patterns:
            assert np.dtype(dtype.numpy).kind == "u"
        else:
            assert torch.from_numpy(np.zeros(1, dtype.numpy)).dtype == getattr(torch, dtype.torch)


def test_weights_are_edited_in_floats_that_are_no_codes():
    assert {name for name, dtype in DTYPES.items() if dtype.editable} == {"F16", "BF16", "F32", "F64"}
    assert all(BY_TORCH_NAME[name].editable for name in COMPUTED)
