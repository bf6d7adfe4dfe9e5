"""Bounds on the answers of a hub: on their bytes, encodings and time.

huggingface_hub's client asks as ever, with its proxies and certificates. Hooks of it look at each answer before any of
its body is read; outside of `bounded`, and in other threads, they do nothing.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from huggingface_hub.utils import get_session

from weight_atlas.errors import AtlasError

READ_IN_PART = sys.maxsize  # for one who stops reading by himself
LISTS = 100_000_000  # bytes: a list of ten thousand files takes some millions
_NO_FILE = 1_000_000  # bytes of what goes with a redirect or an error
_LONGEST_ASKED = 3600.0  # seconds that a hub may ask to wait for
# A connection that gives nothing at all ends by its own time limit.
_PATIENCE, _SLOWEST = 300.0, 1000  # seconds that are looked at, bytes in each of them
_REMEDY = "check the network, and the mirror if HF_ENDPOINT or MODELSCOPE_ENDPOINT names one"

_most: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def bounded(most: int) -> Iterator[httpx2.Client]:
    """Yield huggingface_hub's client, whose answers in this thread have at most so many bytes within the block.

    An answer that goes on beyond them, that is encoded, or that takes for ever is an AtlasError.
    """
    client = get_session()
    for kind, hook in (("request", _ask_plainly), ("response", _bound)):
        if hook not in client.event_hooks[kind]:
            client.event_hooks[kind].append(hook)
    outer = _most.set(most)
    try:
        yield client
    finally:
        _most.reset(outer)


def seconds_asked(headers: httpx2.Headers) -> float:
    """What a Retry-After header asks for: a number of seconds, or a date; 0 where there is none."""
    asked = headers.get("retry-after", "")
    try:
        return float(asked)
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _ask_plainly(request: httpx2.Request) -> None:
    if _most.get() is not None:
        request.headers["Accept-Encoding"] = "identity"


def _bound(response: httpx2.Response) -> None:
    """Hold the body of an answer to the bounds as it is read; AtlasError where its headers are beyond them."""
    if (most := _most.get()) is None:
        return
    host = response.request.url.host
    if response.status_code == 429:
        response.headers.pop("ratelimit", None)  # another way to ask for a wait, which huggingface_hub obeys
        if (asked := seconds_asked(response.headers)) > _LONGEST_ASKED:
            raise _refused(f"it asks to wait for {asked:.0f} seconds (status 429)", host)
    if not response.is_success:
        most = _NO_FILE
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _refused("it is compressed, which was not asked for", host)
    length = response.headers.get("content-length", "0")
    if response.request.method != "HEAD" and int(length) > most:
        raise _refused(f"it has {length} bytes, more than the {most} that it may have", host)
    if isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _Body(response.stream, most, host)


class _Body(httpx2.SyncByteStream):
    """The body of an answer."""

    def __init__(self, stream: httpx2.SyncByteStream, most: int, host: str):
        self._stream, self._most, self._host = stream, most, host

    def __iter__(self) -> Iterator[bytes]:
        came, of_late, waited, pieces = 0, 0, 0.0, iter(self._stream)
        while True:
            asked = time.monotonic()
            piece = next(pieces, None)
            waited += time.monotonic() - asked
            if piece is None:
                return
            came, of_late = came + len(piece), of_late + len(piece)
            if came > self._most:
                raise _refused(f"it goes on beyond the {self._most} bytes that it may have", self._host)
            if waited > _PATIENCE:
                if of_late < waited * _SLOWEST:
                    raise _refused(f"{of_late} bytes came in {waited:.0f} seconds", self._host)
                of_late, waited = 0, 0.0
            yield piece

    def close(self) -> None:
        self._stream.close()


def _refused(why: str, host: str) -> AtlasError:
    return AtlasError(f"an answer of the hub is not read: {why}", where=host, remedy=_REMEDY)
