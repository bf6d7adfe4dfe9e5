"""Fixtures of tests that read packed matrices."""

import numpy as np
import pytest
import torch


@pytest.fixture
def random():
    torch.manual_seed(0)
    return np.random.default_rng(0)


@pytest.fixture
def small_pieces(monkeypatch):
    # Several pieces even for small tensors.
    monkeypatch.setattr("weight_atlas.checkpoint.quantized.scheme._ELEMENTS_AT_ONCE", 500)
