"""What the hub says of a repository: its commit, and its files with their sizes and digests."""

import os
import re
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.source import HubSource
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATIENCE = 60.0  # seconds without a byte


def repository_info(source: HubSource, revision: str | None, *, patience: float = _PATIENCE) -> "ModelInfo":
    """The hub's answer about a repository at a branch, tag or commit (None: the default branch), from one request.

    Names of folders and files are made of its commit and digests: AtlasError where these are none.
    """
    from huggingface_hub import HfApi

    from weight_atlas.checkpoint.bounded_answers import LISTS, bounded

    with bounded(LISTS):
        try:
            info = HfApi(token=access_token()).model_info(
                source.repo, revision=revision, files_metadata=True, timeout=patience
            )
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise _no_list(source, type(error).__name__) from error
    if not COMMIT.fullmatch(str(info.sha)):
        raise _no_list(source, f"no commit: {info.sha}")
    for file in info.siblings or []:
        if not isinstance(file.rfilename, str) or "\0" in file.rfilename:
            raise _no_list(source, f"no name of a file: {file.rfilename!r}")
        for size in (file.size, file.lfs and file.lfs.size):
            if size is not None and (not isinstance(size, int) or size < 0):
                raise _no_list(source, f"no size of {file.rfilename}: {size!r}")
        if file.lfs and not (isinstance(file.lfs.sha256, str) and _SHA256.fullmatch(file.lfs.sha256)):
            raise _no_list(source, f"no SHA-256 of {file.rfilename}: {file.lfs.sha256!r}")
    return info


def access_token() -> str | bool:
    """The token of the environment, False where there is none."""
    # False keeps huggingface_hub from looking for one that was stored on this machine.
    return os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or False


def _no_list(source: HubSource, why: str) -> AtlasError:
    return AtlasError(
        f"the hub does not answer with a list of files ({why})",
        where=source.text,
        remedy="check HF_ENDPOINT, if it names a mirror, and try again later",
    )
