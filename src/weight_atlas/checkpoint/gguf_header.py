"""The header of a GGUF file, read by the gguf package within bounds: its reader believes every count that it finds."""

from typing import Any

from gguf import GGUFReader, GGUFValueType

# Vocabularies have less than a million entries, models less than a hundred thousand tensors of at most four dimensions.
_MOST_ELEMENTS = 1 << 23
_MOST_TENSORS = 1 << 20
_MOST_DIMENSIONS = 8


class BoundedReader(GGUFReader):
    """A GGUFReader that raises ValueError where a count cannot be true, instead of going on beyond the file's end."""

    _elements = _tensors = 0

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        found = super()._get(offset, dtype, count, override_order)
        if len(found) < count:
            raise ValueError(f"{count} values at byte {offset} reach beyond the end")
        return found

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type == GGUFValueType.ARRAY:
            count = int(self._get(orig_offs + 4, "u8")[0])
            self._elements += count
            if self._elements > _MOST_ELEMENTS:
                raise ValueError(f"an array that claims {count} elements")
        return super()._get_field_parts(orig_offs, raw_type)

    def _get_tensor_info_field(self, orig_offs: int) -> Any:
        field = super()._get_tensor_info_field(orig_offs)
        dimensions, self._tensors = len(field.parts[3]), self._tensors + 1
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"a tensor that claims {dimensions} dimensions")
        if self._tensors > _MOST_TENSORS:
            raise ValueError(f"more than {_MOST_TENSORS} tensors")
        return field
