"""A stand-in for the Hugging Face hub on loopback: the part of its protocol that downloading a model needs.

Large files (all but JSON and text) are served as LFS files: /resolve/ answers with X-Linked-Size, X-Linked-Etag and a
redirect to a second server that stands in for the content network. Every request is recorded, and so are the bytes of
files that were sent.
"""

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_SMALL = (".json", ".txt", ".md", ".jinja", ".py")


@dataclass
class Repository:
    """files: name -> content. access: the status that answers a request for a file or, with closed, for anything.

    branches: files of further revisions, whose commits are the SHA-1 of their names.
    """

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main", "v1")
    access: int = 200
    closed: bool = False
    token: str | None = None
    branches: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a revision stands for, and its files; None of a revision that is not there."""
        for name, files in self.branches.items():
            if revision in (name, commit := hashlib.sha1(name.encode()).hexdigest()):
                return commit, files
        return (COMMIT, self.files) if revision in (*self.revisions, COMMIT) else None


@dataclass
class Fault:
    """What goes wrong with one request for a large file.

    status: in place of the file, with these headers. cut: bytes of what was asked for, after which it hangs up; reset:
    with a reset of the connection. no_ranges: it sends the whole file whatever was asked for.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    reset: bool = False
    no_ranges: bool = False


@dataclass
class StandinHub:
    """The state that a test sets and the requests that it reads."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    stall_at: int | None = None  # bytes of a large file after which the server goes silent
    cut_at: int | None = None  # bytes of a large file after which it hangs up, once
    spoil: dict[str, bytes] = field(default_factory=dict)  # file name -> what is sent in its place
    faults: dict[str, list["Fault"]] = field(default_factory=dict)  # file name -> of its next requests, one each
    # Part of a path -> what answers such requests instead; it writes to the handler.
    instead: dict[str, Callable[["_Handler"], None]] = field(default_factory=dict)
    sent: int = 0  # bytes of files
    released: threading.Event = field(default_factory=threading.Event)
    endpoint: str = ""
    content: str = ""

    def headers_of(self, part: str, method: str = "GET") -> list[dict[str, str]]:
        """Headers of the requests whose path contains part."""
        return [headers for verb, path, headers in self.requests if part in path and verb == method]


@contextmanager
def standin_hub(repositories: dict[str, Repository]):
    """Run the two servers while the block runs; yields the StandinHub."""
    hub = StandinHub(repositories)
    handlers = [type("Handler", (base,), {"hub": hub}) for base in (_HubHandler, _ContentHandler)]
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in handlers]
    hub.endpoint, hub.content = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        for server in servers:
            server.shutdown()
            server.server_close()


def ask_instead(endpoint: str, monkeypatch, cache: Path | None = None) -> None:
    """Have huggingface_hub in this process ask an endpoint in place of the hub, with a cache of its own."""
    constants = {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
        **({} if cache is None else {"HF_HUB_CACHE": str(cache)}),
    }
    for name, value in constants.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandinHub

    def log_message(self, *arguments) -> None:
        pass

    def do_HEAD(self) -> None:
        self._record()

    def do_GET(self) -> None:
        self._record()

    def _record(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append((self.command, self.path, headers))
        if instead := next((answer for part, answer in self.hub.instead.items() if part in self.path), None):
            with suppress(ConnectionError):
                instead(self)
            self.close_connection = True
            return
        self.answer(urlsplit(self.path).path, headers)

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _HubHandler(_Handler):
    def answer(self, path: str, headers: dict[str, str]) -> None:
        if info := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            revision = self._revision(info[1], unquote(info[2] or "main"), headers, closed=True)
            if revision:
                commit, files = revision
                siblings = [_sibling(name, body) for name, body in sorted(files.items())]
                body = {"id": info[1], "sha": commit, "private": False, "tags": [], "siblings": siblings}
                self.reply(200, json.dumps(body).encode(), Content_Type="application/json")
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            revision = self._revision(file[1], unquote(file[2]), headers, closed=False)
            if revision and file[3] not in revision[1]:
                self.reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=revision[0])
            elif revision:
                self._file(file[1], file[3], *revision)
        elif file := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?", path):
            self._modelscope(file[1], parse_qs(urlsplit(self.path).query), headers, listing=bool(file[2]))
        else:
            self.reply(404)

    def _modelscope(self, name: str, query: dict[str, list[str]], headers: dict[str, str], *, listing: bool) -> None:
        """ModelScope's interface: a list of files, and each of them by its path."""
        repository = self.hub.repositories.get(name)
        if repository is None or query["Revision"][0] not in ("master", *repository.revisions):
            self.reply(404, b"{}")
        elif repository.token and headers.get("authorization") != f"Bearer {repository.token}":
            self.reply(repository.access if repository.access != 200 else 403, b"{}")
        elif listing:
            files = [
                {
                    "Path": path,
                    "Name": path,
                    "Type": "blob",
                    "Size": len(body),
                    "Sha256": hashlib.sha256(body).hexdigest(),
                }
                for path, body in sorted(repository.files.items())
            ]
            folder = {"Path": "onnx", "Type": "tree", "Size": 0, "Sha256": ""}
            self.reply(200, json.dumps({"Code": 200, "Success": True, "Data": {"Files": [*files, folder]}}).encode())
        else:
            self.reply(302, Location=f"{self.hub.content}/{name}/{query['FilePath'][0]}")

    def _revision(
        self, name: str, revision: str, headers: dict[str, str], closed: bool
    ) -> tuple[str, dict[str, bytes]] | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self.reply(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif repository.at(revision) is None:
            self.reply(404, X_Error_Code="RevisionNotFound", X_Error_Message=f"Invalid rev id: {revision}")
        elif repository.access != 200 and (repository.closed or not closed):
            self.reply(
                repository.access, X_Error_Code="GatedRepo", X_Error_Message="Access to this model is restricted"
            )
        elif repository.token and headers.get("authorization") != f"Bearer {repository.token}":
            self.reply(401, X_Error_Code="GatedRepo", X_Error_Message="Access to this model is restricted")
        else:
            return repository.at(revision)
        return None

    def _file(self, repository: str, name: str, commit: str, files: dict[str, bytes]) -> None:
        body = files[name]
        if name.endswith(_SMALL):
            self.reply(200, body, ETag=f'"{_git_hash(body)}"', X_Repo_Commit=commit)
            self.hub.sent += len(body)
            return
        self.reply(
            302,
            Location=f"{self.hub.content}/{repository}/{name}?commit={commit}",
            X_Repo_Commit=commit,
            X_Linked_Size=str(len(body)),
            X_Linked_Etag=f'"{hashlib.sha256(body).hexdigest()}"',
        )


class _ContentHandler(_Handler):
    def answer(self, path: str, headers: dict[str, str]) -> None:
        organisation, model, name = path.strip("/").split("/", 2)
        fault = self.hub.faults[name].pop(0) if self.hub.faults.get(name) else Fault()
        if fault.status:
            self.reply(fault.status, b"{}", **fault.headers)
            return
        if fault.no_ranges:
            headers = {}
        repository = self.hub.repositories[f"{organisation}/{model}"]
        (commit,) = parse_qs(urlsplit(self.path).query).get("commit", [COMMIT])
        body = self.hub.spoil.get(name) or repository.at(commit)[1][name]
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", "bytes=0-")).groups()
        begin, end = int(first), min(int(last) + 1, len(body)) if last else len(body)
        whole, body = len(body), body[begin:end]
        ranged = {"Content_Range": f"bytes {begin}-{end - 1}/{whole}"} if begin or last else {}
        if fault.cut is not None:
            self._cut(body, fault, ranged)
            return
        stop = self.hub.cut_at or self.hub.stall_at
        if stop is None or ranged:
            self.reply(206 if ranged else 200, body, **ranged)
            self.hub.sent += len(body)
            return
        self.reply(200, body[:stop], Content_Length=str(whole))
        self.hub.sent += stop
        self.wfile.flush()
        if self.hub.stall_at is not None:
            self.hub.released.wait(60)
        self.close_connection = True

    def _cut(self, body: bytes, fault: Fault, ranged: dict[str, str]) -> None:
        part = body[: fault.cut]
        self.reply(206 if ranged else 200, part, Content_Length=str(len(body)), **ranged)
        self.wfile.flush()
        self.hub.sent += len(part)
        if fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close() if fault.reset else None


def in_shards(content: bytes, shards: int, *, padding: int = 0, scattered: bool = False) -> dict[str, bytes]:
    """A safetensors file in several, with their index: neighbouring tensors together, or scattered over them.

    padding: by so many bytes each header is longer.
    """
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    names, index, files = sorted(header), {}, {}
    each = -(-len(names) // shards)
    for number in range(shards):
        name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part, body = {"__metadata__": {"long": "x" * padding}}, b""
        for tensor in names[number::shards] if scattered else names[number * each : (number + 1) * each]:
            begin, end = header[tensor]["data_offsets"]
            part[tensor] = {**header[tensor], "data_offsets": [len(body), len(body) + end - begin]}
            body += data[begin:end]
            index[tensor] = name
        text = json.dumps(part).encode()
        files[name] = struct.pack("<Q", len(text)) + text + body
    return files | {"model.safetensors.index.json": json.dumps({"weight_map": index}).encode()}


def _sibling(name: str, body: bytes) -> dict:
    sibling = {"rfilename": name, "size": len(body), "blobId": _git_hash(body)}
    if not name.endswith(_SMALL):
        digest = hashlib.sha256(body).hexdigest()
        sibling["lfs"] = {"size": len(body), "sha256": digest, "pointerSize": 134}
    return sibling


def _git_hash(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
