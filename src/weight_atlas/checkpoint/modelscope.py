"""Repositories on ModelScope, by its HTTP interface: the files at a branch or tag, and where each is requested.

Its lists name no commit. So the state of a repository is told by the digests of its files, as REVISION@DIGEST: what is
asked for later must have the same. MODELSCOPE_ENDPOINT names another host, MODELSCOPE_API_TOKEN holds an access token.
"""

import hashlib
import os
import re
from typing import Any
from urllib.parse import quote, urlencode

from weight_atlas.checkpoint.repository import RemoteFile, Repository
from weight_atlas.checkpoint.source import HubSource
from weight_atlas.checkpoint.transfer import persistently
from weight_atlas.errors import AtlasError

_BRANCH = "master"
_STATE = re.compile(r"(?P<revision>.+)@(?P<digest>[0-9a-f]{40})")
_SHA256 = re.compile("[0-9a-f]{64}")
_PAGE_REMEDY = "check the spelling and `revision`; for a private model put an access token into MODELSCOPE_API_TOKEN"


def modelscope_repository(source: HubSource, revision: str | None) -> Repository:
    """A repository at a branch or tag (None: master), or at the state that a manifest recorded.

    AtlasError where there is none, and where it is in another state by now.
    """
    state = _STATE.fullmatch(revision or "")
    branch = state["revision"] if state else revision or _BRANCH
    place = f"{_endpoint()}/api/v1/models/{source.repo}/repo"
    headers = _headers()
    query = urlencode({"Revision": branch, "Recursive": "False"})
    listed = persistently(lambda: _answer(f"{place}/files?{query}", headers, source.text))
    files = {file.name: file for file in listed}
    digest = hashlib.sha1(
        "".join(f"{file.digest} {file.size} {name}\n" for name, file in sorted(files.items())).encode(),
        usedforsecurity=False,
    ).hexdigest()
    if state and state["digest"] != digest:
        raise AtlasError(
            f"the repository has changed since {branch} was read",
            where=source.text,
            remedy="run again: snakemake --forcerun fetch_checkpoint",
        )

    def url(name: str) -> str:
        return f"{place}?{urlencode({'Revision': branch, 'FilePath': name}, quote_via=quote)}"

    return Repository(source.text, f"{branch.replace('/', '--')}@{digest}", files, url, headers, requests=1)


def _endpoint() -> str:
    return os.environ.get("MODELSCOPE_ENDPOINT", "https://modelscope.cn").rstrip("/")


def _headers() -> dict[str, str]:
    """Who asks: older parts of the interface know the token as a cookie."""
    token = os.environ.get("MODELSCOPE_API_TOKEN")
    told = {"User-Agent": "weight-atlas"}
    return {**told, "Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else told


def _answer(url: str, headers: dict[str, str], where: str) -> list[RemoteFile]:
    """The files of a list at the top of a repository."""
    from huggingface_hub.utils import hf_raise_for_status

    from weight_atlas.checkpoint.bounded_answers import LISTS, bounded

    with bounded(LISTS) as client:
        response = client.get(url, headers=headers, follow_redirects=True, timeout=60)
    if response.status_code == 404:
        raise AtlasError("ModelScope has no such model or revision, or it is private", where=where, remedy=_PAGE_REMEDY)
    hf_raise_for_status(response)
    try:
        told = response.json()
        if not told.get("Success", True):
            raise AtlasError(f"ModelScope: {told.get('Message', 'no success')}", where=where, remedy=_PAGE_REMEDY)
        return [file for file in map(_remote_file, told["Data"]["Files"]) if file is not None]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        remedy = "check MODELSCOPE_ENDPOINT"
        raise AtlasError("not a list of files from ModelScope", where=where, remedy=remedy) from error


def _remote_file(entry: dict[str, Any]) -> RemoteFile | None:
    """A file at the top of a repository; None for what lies deeper, and for folders; ValueError for what is none."""
    name = str(entry.get("Path", ""))
    if not name or "/" in name or entry.get("Type") == "tree":
        return None
    size, digest = int(entry.get("Size") or 0), entry.get("Sha256") or None
    if size < 0 or "\0" in name or not (digest is None or _SHA256.fullmatch(digest)):
        raise ValueError(name)
    return RemoteFile(name, size, digest)
