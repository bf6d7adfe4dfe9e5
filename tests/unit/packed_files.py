"""Checkpoints of packed matrices, and what their values should be."""

import json
import math

import numpy as np
import torch
from safetensors.torch import save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint

FP8 = torch.float8_e4m3fn


def stored(folder, tensors: dict, method: str | None = None, **settings) -> Checkpoint:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    top = {key: settings.pop(key) for key in ("dtype",) if key in settings}
    config = top | ({"quantization_config": {"quant_method": method, **settings}} if method else {})
    (folder / "config.json").write_text(json.dumps(config))
    return Checkpoint.from_folder(folder)


def check(checkpoint: Checkpoint, name: str, expected: np.ndarray, dtype: torch.dtype, kind: str) -> None:
    """The values, whole and by rows, are those expected, rounded once to dtype."""
    entry, read = checkpoint.entries[name], checkpoint.read(name)
    assert (entry.dtype, entry.shape, read.shape, read.dtype) == (kind, expected.shape, expected.shape, dtype)
    assert torch.equal(read, torch.from_numpy(expected).to(torch.float32).to(dtype))
    for rows in (slice(1, 3), slice(2, None), slice(0, 0)):
        assert torch.equal(checkpoint.read(name, rows), read[rows])


def bit_stream(codes: np.ndarray, bits: int) -> torch.Tensor:
    """Integers along dimension 0 as one stream of bits, cut into 32-bit words; lowest bits first."""
    columns = []
    for column in codes.T:
        stream = sum(int(code) << (bits * place) for place, code in enumerate(column))
        words = math.ceil(len(column) * bits / 32)
        columns.append([(stream >> (32 * word)) & 0xFFFFFFFF for word in range(words)])
    return torch.from_numpy(np.array(columns, dtype=np.uint32).view(np.int32).T.copy())
