"""Where the hub's ordinary cache keeps a model; nothing is downloaded here."""

from pathlib import Path

from weight_atlas.errors import AtlasError


def repo_folder(repo: str) -> Path:
    """The folder of a repository in the hub cache, whether it is there or not."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def snapshot_folder(repo: str, commit: str) -> Path:
    """The folder of one commit of a repository in the hub cache, whether it is there or not."""
    return repo_folder(repo) / "snapshots" / commit


def snapshot(repo: str, commit: str) -> Path:
    """The folder of one commit of a repository in the hub cache; AtlasError if it is not there."""
    folder = snapshot_folder(repo, commit)
    if not folder.is_dir():
        raise AtlasError(
            f"{repo} at {commit} is no longer in the hub cache",
            where=folder,
            remedy="set HF_HOME as it was, or download again: snakemake --forcerun fetch_checkpoint",
        )
    return folder
