"""Reach a repository on its hub, and learn what files it has at a branch, a tag or a commit."""

from typing import Any

from weight_atlas.checkpoint.hub import explaining
from weight_atlas.checkpoint.modelscope import modelscope_repository
from weight_atlas.checkpoint.repository import RemoteFile, Repository
from weight_atlas.checkpoint.repository_info import access_token, repository_info
from weight_atlas.checkpoint.source import HubSource
from weight_atlas.checkpoint.transfer import persistently


def repository_at(source: HubSource, revision: str | None) -> Repository:
    """The repository of a source at a branch, tag or commit (None: the default branch)."""
    with explaining(source.text if revision is None else f"{source.text} at revision {revision}"):
        return (modelscope_repository if source.scheme == "ms" else hub_repository)(source, revision)


def hub_repository(source: HubSource, revision: str | None) -> Repository:
    """A repository of the Hugging Face hub, or of the mirror that HF_ENDPOINT names."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    info = persistently(lambda: repository_info(source, revision))
    commit = str(info.sha)
    return Repository(
        source.text,
        commit,
        {file.rfilename: _remote_file(file) for file in info.siblings or [] if "/" not in file.rfilename},
        lambda name: hf_hub_url(source.repo, name, revision=commit),
        build_hf_headers(token=access_token()),
        requests=1,
    )


def _remote_file(file: Any) -> RemoteFile:
    size, digest = (file.lfs.size, file.lfs.sha256) if file.lfs else (file.size, file.blob_id)
    return RemoteFile(file.rfilename, int(size or 0), digest)


class Reached:
    """A repository that is asked for at the first call; asked: whether it was."""

    def __init__(self, source: HubSource, commit: str):
        self._source, self._commit = source, commit
        self._repository: Repository | None = None

    @property
    def asked(self) -> bool:
        return self._repository is not None

    def __call__(self) -> Repository:
        if self._repository is None:
            self._repository = repository_at(self._source, self._commit)
        return self._repository
