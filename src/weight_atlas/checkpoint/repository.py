"""A repository on a hub at one commit: its files, with what the hub records of them, and where each is requested."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. size: bytes. digest: hex SHA-256, of a small file its git hash; None: not recorded."""

    name: str
    size: int
    digest: str | None


@dataclass
class Repository:
    """The files at the top of a repository, by name.

    text: its source, for messages. commit: which never changes. url(name): where a file is requested. headers: that go
    with each request. requests, bytes: how many were answered so far, and what came of files.
    """

    text: str
    commit: str
    files: dict[str, RemoteFile]
    url: Callable[[str], str]
    headers: dict[str, str] = field(repr=False)
    requests: int = 0
    bytes: int = 0
