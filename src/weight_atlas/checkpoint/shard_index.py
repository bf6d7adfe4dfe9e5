"""The index of a sharded checkpoint (model.safetensors.index.json): which shard each tensor is in."""

import json
from collections.abc import Mapping
from pathlib import Path

from weight_atlas.checkpoint.tensors import TensorEntry
from weight_atlas.errors import AtlasError

_AGAIN = "download or copy the file again"


def weight_map(path: Path) -> dict[str, str]:
    """The weight_map of an index file: tensor name -> shard."""
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not all(isinstance(shard, str) for shard in mapping.values()):
            raise TypeError("its values must be file names")
    except OSError as error:
        raise AtlasError(f"cannot read the index: {error.strerror}", where=path, remedy=_AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AtlasError(f"not a shard index: {type(error).__name__}: {error}", where=path, remedy=_AGAIN) from error
    return mapping


def check_index(path: Path, entries: Mapping[str, TensorEntry]) -> None:
    """AtlasError unless every tensor of an index file is in the shard where it says."""
    for name, shard in weight_map(path).items():
        if name not in entries or entries[name].shard != shard:
            found = f"which is in {entries[name].shard}" if name in entries else "which is in no file"
            raise AtlasError(
                f"the index puts tensor {name} in {shard}, {found}",
                where=path,
                remedy="get index and shards again from one version of the checkpoint",
            )
