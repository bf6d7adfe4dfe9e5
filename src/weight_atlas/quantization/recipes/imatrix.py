"""llama.cpp's importance matrix, as llama-imatrix writes it in GGUF: sums of squares and counts of each tensor."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from weight_atlas.artifacts import atomic


def write_imatrix(
    path: Path, moments: pd.DataFrame, gguf_name: Callable[[str], str | None], *, corpus: str, window: int, windows: int
) -> int:
    """Write the second moments of the tensors that a GGUF file has; returns how many.

    moments: of live.input_moments. Tensors NAME.in_sum2, float32 (1, channels), and NAME.counts, float32 (1, 1).
    """
    import gguf

    named = {name: row for row in moments.itertuples() if (name := gguf_name(row.tensor)) is not None}
    with atomic(path) as temporary:
        writer = gguf.GGUFWriter(temporary, arch="imatrix")
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", [corpus])
        writer.add_uint32("imatrix.chunk_count", windows)
        writer.add_uint32("imatrix.chunk_size", window)
        for name in sorted(named):
            row = named[name]
            sums = np.asarray(row.moments, dtype=np.float64) * row.tokens
            writer.add_tensor(f"{name}.in_sum2", sums.astype(np.float32).reshape(1, -1))
            writer.add_tensor(f"{name}.counts", np.array([[row.tokens]], dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return len(named)
