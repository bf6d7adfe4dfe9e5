"""Bytes of a repository's files as they arrive; after a broken connection the transfer goes on where it stopped.

Passing faults are tried again: a connection that is reset, silent or cut short, and the status 408, 429 or 5xx. The
wait doubles up to a minute; a longer Retry-After is obeyed.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    from weight_atlas.checkpoint.repository import RemoteFile, Repository

Answer = TypeVar("Answer")

TRIES = 8  # in a row without a byte: about two minutes
FIRST_TRIES = 4  # of a host that has not answered yet: 15 seconds, since its name or the network may be wrong
_LONGEST_WAIT = 60.0  # seconds between two tries
_PASSING = (408, 429, 500, 502, 503, 504)
_BLOCK = 1 << 20
UNFINISHED = ".incomplete"  # ends the name of a file that is on its way
_CHANGED = "run again: snakemake --forcerun fetch_checkpoint; a mirror may also lag behind its hub"


class CutShort(ConnectionError):
    """A response that ended before all of it had come."""


def persistently(ask: Callable[[], Answer]) -> Answer:
    """The answer to a first request, tried again while the fault may pass, for longer where a hub answers at all."""
    failed = 0
    while True:
        try:
            return ask()
        except Exception as error:
            failed += 1
            if failed > (TRIES if hasattr(error, "response") else FIRST_TRIES) or not _passes(error):
                raise
            print(f"the hub: {_in_short(error)}, trying again", file=sys.stderr, flush=True)
            _wait(failed, error)


def arriving(repository: "Repository", name: str, start: int, stop: int) -> Iterator[bytes]:
    """Bytes of a file from `start` up to `stop`, in pieces as they come, none twice.

    AtlasError where the file is not the one that the repository listed; what the connection does, where it does not
    pass, is raised as it is (see hub.explaining).
    """
    failed = 0
    while start < stop:
        begun = start
        try:
            for piece in _response(repository, name, start, stop):
                start += len(piece)
                yield piece
            if start < stop:
                raise CutShort(f"{name} ended at byte {start}")
        except Exception as error:
            failed = failed + 1 if start == begun else 1
            if failed > TRIES or not _passes(error):
                raise
            print(f"{name}: {_in_short(error)} at byte {start}, trying again", flush=True)
            _wait(failed, error)


def fetch_file(repository: "Repository", name: str, path: Path) -> bool:
    """Bring a whole file to a path, going on from what an interrupted run left, and compare it with the hub's digest.

    Returns whether the hub has one. AtlasError for other bytes than the hub has, which are removed.
    """
    file, part = repository.files[name], path.with_name(f"{path.name}{UNFINISHED}")
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = _Digest(file)
    with part.open("ab+") as written:
        if (begun := written.tell()) > file.size:
            written.truncate(begun := 0)
        written.seek(0)
        for block in iter(lambda: written.read(_BLOCK), b""):
            digest.update(block)
        if begun:
            print(f"{name}: going on from byte {begun} of {file.size}", flush=True)
        for piece in arriving(repository, name, begun, file.size):
            written.write(piece)
            digest.update(piece)
    if not digest.right:
        part.unlink()
        raise AtlasError(
            f"{name} arrived damaged, or was changed: its digest is not the one that the hub records",
            where=repository.text,
            remedy="run again: the file is downloaded anew",
        )
    part.replace(path)
    return file.digest is not None


class _Digest:
    """The digest of a file as its bytes come, of the kind that the hub records: SHA-256, or git's SHA-1."""

    def __init__(self, file: "RemoteFile"):
        self._recorded = file.digest
        if len(file.digest or "") == 40:
            self._hash = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        else:
            self._hash = hashlib.sha256()
        self.update = self._hash.update

    @property
    def right(self) -> bool:
        return self._recorded in (None, self._hash.hexdigest())


def _response(repository: "Repository", name: str, start: int, stop: int) -> Iterator[bytes]:
    """What one request gives of a range."""
    from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT
    from huggingface_hub.utils import hf_raise_for_status

    from weight_atlas.checkpoint.bounded_answers import READ_IN_PART, bounded

    file = repository.files[name]
    headers = dict(repository.headers)
    if (start, stop) != (0, file.size):
        headers["Range"] = f"bytes={start}-{stop - 1}"
    patience, url = HF_HUB_DOWNLOAD_TIMEOUT, repository.url(name)
    with ExitStack() as stack:
        with bounded(READ_IN_PART) as client:
            response = stack.enter_context(
                client.stream("GET", url, headers=headers, follow_redirects=True, timeout=patience)
            )
        if response.status_code == 416:
            raise _changed(repository, name, "it is shorter than listed")
        hf_raise_for_status(response)
        repository.requests += 1
        _check(repository, file, response, start)
        position = start if response.status_code == 206 else 0  # a server that knows no ranges sends all
        for piece in response.iter_raw():  # as they come: what waits for a piece to fill is lost with the connection
            repository.bytes += len(piece)
            wanted = piece[max(0, start - position) : max(0, stop - position)]
            position += len(piece)
            if wanted:
                yield wanted
            if position >= stop:
                return


def _check(repository: "Repository", file: "RemoteFile", response: Any, start: int) -> None:
    """AtlasError unless a response is of the file that was listed, from the byte that was asked for."""
    for each in (*response.history, response):
        tag = each.headers.get("x-linked-etag", "").removeprefix("W/").strip('"')
        if tag and file.digest and tag != file.digest:
            raise _changed(repository, file.name, f"its digest is now {tag}")
    if response.status_code == 206:
        unit, _, given = response.headers.get("content-range", "").partition(" ")
        span, _, total = given.partition("/")
        if unit != "bytes" or span.partition("-")[0] != str(start) or total not in ("*", str(file.size)):
            raise _changed(repository, file.name, f"the server gives {given or 'no range'} of {file.size} bytes")
    elif (length := response.headers.get("content-length")) is not None and int(length) != file.size:
        raise _changed(repository, file.name, f"the server has {length} bytes, listed are {file.size}")


def _changed(repository: "Repository", name: str, why: str) -> AtlasError:
    return AtlasError(f"{name} is not the file that the hub listed: {why}", where=repository.text, remedy=_CHANGED)


def _passes(error: Exception) -> bool:
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING
    for_ever = httpx2.UnsupportedProtocol | httpx2.LocalProtocolError
    return isinstance(error, httpx2.TransportError | ConnectionError) and not isinstance(error, for_ever)


def _in_short(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"status {status}" if status else type(error).__name__


def _wait(failed: int, error: Exception) -> None:
    """Wait before the next try, for the n-th failure in a row; as long as the hub asks for, if it does."""
    from weight_atlas.checkpoint.bounded_answers import seconds_asked

    response: Any = getattr(error, "response", None)
    asked = seconds_asked(response.headers) if response is not None else 0.0
    time.sleep(max(asked, min(_LONGEST_WAIT, 2.0 ** (failed - 1))))
