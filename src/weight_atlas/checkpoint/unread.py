"""What is here of a streamed model: the headers of its shards and the files beside them, and none of its values.

Each shard is a sparse file of its size that holds its header, and the few small tensors that say how others are packed.
"""

from pathlib import Path

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.listing import list_folder, top_files
from weight_atlas.checkpoint.source import HubSource
from weight_atlas.errors import AtlasError
from weight_atlas.settings.models import CheckpointSpec

_GONE = (
    "the model is streamed: its weights are read once, as they arrive, and this needs them again or all together in "
    "memory"
)


def headers_folder(source: HubSource, commit: str) -> Path:
    """The folder with the headers and small files of a commit, whether it is there or not."""
    from huggingface_hub import constants

    name = source.repo.replace("/", "--") + (f"--{source.file}" if source.file else "")
    return Path(constants.HF_HUB_CACHE) / "weight-atlas-headers" / f"{source.scheme}--{name}" / commit


def headers(source: HubSource, commit: str) -> Path:
    """The folder with the headers and small files of a commit; AtlasError if it is not there."""
    folder = headers_folder(source, commit)
    if not folder.is_dir():
        raise AtlasError(
            f"the headers of {source.repo} at {commit} are no longer in the hub cache",
            where=folder,
            remedy="set HF_HOME as it was, or fetch them again: snakemake --forcerun fetch_checkpoint",
        )
    return folder


def open_unread(spec: CheckpointSpec, source: HubSource) -> Checkpoint:
    """The checkpoint of a streamed model at a commit, by its headers; reading a tensor is NotApplicable."""
    folder = headers(source, str(spec.revision))
    checkpoint = Checkpoint.indexed(folder, list_folder(folder, source.file, names=top_files(folder)), spec)
    checkpoint.gone = _GONE
    return checkpoint
