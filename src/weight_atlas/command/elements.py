"""Single elements of a model's matrices, read on request, for the zoom of the served atlas."""

import base64
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

from weight_atlas.errors import AtlasError

# Elements of a window on each side.
MOST = 128
# Bytes of matrices that are kept, for those whose rows cannot be read alone.
KEPT = 256_000_000


class Elements:
    """Windows of the matrices of models whose results lie in a folder. Memory: KEPT, and one matrix."""

    def __init__(self, results: Path):
        self._results = results
        self._open: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._kept: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._lock = Lock()

    def window(self, model: str, name: str, row: int, column: int, rows: int, columns: int) -> dict[str, Any]:
        """{row, column, rows, columns, shape, values}: the elements from row and column on, as far as there are any.

        values: base64 of little-endian float32, row by row. AtlasError for a model or a matrix that is not there, and
        for numbers that are no window.
        """
        if min(row, column) < 0 or not 0 < min(rows, columns) <= max(rows, columns) <= MOST:
            raise AtlasError(f"no window: it has 1 to {MOST} rows and columns, counted from 0")
        with self._lock:
            checkpoint, tensors = self._model(model)
            if name not in tensors or tensors[name].cols is None:
                raise AtlasError(f"{model} has no matrix of this name", where=repr(name)[:200])
            height, width = int(tensors[name].rows), int(tensors[name].cols)
            row, column = min(row, max(height - 1, 0)), min(column, max(width - 1, 0))
            part = self._rows(model, checkpoint, tensors[name], row, min(row + rows, height))
            values = part[:, column : column + columns].float().contiguous().numpy().astype("<f4")
        return {
            "row": row,
            "column": column,
            "rows": values.shape[0],
            "columns": values.shape[1],
            "shape": [height, width],
            "values": base64.b64encode(values.tobytes()).decode(),
        }

    def _model(self, model: str) -> tuple[Any, dict[str, Any]]:
        """The checkpoint of a model and its tensors by their ids."""
        from weight_atlas.artifacts import read_table
        from weight_atlas.checkpoint.manifest import open_checkpoint

        manifests = {path.stem: path for path in (self._results / "checkpoints").glob("*.json")}
        if model not in manifests:
            raise AtlasError("no model of this name has results", where=repr(model)[:200])
        if model not in self._open:
            inventory = read_table(self._results / f"tensor_inventory/{model}.parquet").astype(object)
            inventory = inventory.where(inventory.notna(), None)
            tensors = {row.id: row for row in inventory.itertuples()}
            self._open[model] = open_checkpoint(manifests[model]), tensors
        return self._open[model]

    def _rows(self, model: str, checkpoint: Any, tensor: Any, first: int, last: int) -> Any:
        """Rows of a matrix: only these are read of one that is stored as it is, else the matrix is kept."""
        from weight_atlas.families.pieces import load_piece

        if not tensor.selection:
            return checkpoint.read(tensor.tensor, slice(first, last))
        key = (model, tensor.id)
        matrix = self._kept.pop(key) if key in self._kept else load_piece(checkpoint, tensor)
        self._kept[key] = matrix
        while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > KEPT:
            self._kept.popitem(last=False)
        return matrix[first:last]
