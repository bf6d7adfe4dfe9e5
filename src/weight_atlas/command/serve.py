"""The atlas served on this machine alone, with the elements of the weights beside what the pages hold."""

import json
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from weight_atlas.command.elements import Elements
from weight_atlas.errors import AtlasError

HOST = "127.0.0.1"
NUMBERS = ("row", "column", "rows", "columns")
# By this pages know that they may ask for elements.
COOKIE = "weight_atlas_elements=1; SameSite=Strict; Path=/"


class Handler(SimpleHTTPRequestHandler):
    """Files of the atlas, and windows of matrices at /elements; only for pages of this very address."""

    def __init__(self, *arguments, elements: Elements, folder: Path, **keywords):
        self.elements, self.folder = elements, folder.resolve()
        super().__init__(*arguments, directory=str(folder), **keywords)

    def do_GET(self) -> None:
        """Answer requests that name this host; a page from elsewhere may lead a browser here under another name."""
        if not self._is_for_this_address():
            self.send_error(HTTPStatus.FORBIDDEN, "another host was asked for")
            return
        asked = urlsplit(self.path)
        if asked.path == "/elements":
            self._answer(parse_qs(asked.query))
        elif self._is_inside(asked.path):
            super().do_GET()
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "no such page")

    def do_HEAD(self) -> None:
        """As GET, without a body; nothing asks for it."""
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    def end_headers(self) -> None:
        """Tell the browser to keep nothing, and to let no other page read the answer."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if self.path.partition("?")[0].endswith((".html", "/")):
            self.send_header("Set-Cookie", COOKIE)
        super().end_headers()

    def list_directory(self, path):
        """No lists of files: they are not part of the atlas."""
        self.send_error(HTTPStatus.NOT_FOUND, "no such page")

    def log_message(self, format, *arguments) -> None:
        """Requests are not logged."""

    def _is_for_this_address(self) -> bool:
        port = self.connection.getsockname()[1]
        return self.headers.get("Host") in (f"{HOST}:{port}", f"localhost:{port}")

    def _is_inside(self, path: str) -> bool:
        """Whether a path is a file of the atlas, links followed."""
        wanted = (self.folder / unquote(path).lstrip("/")).resolve()
        return wanted.is_relative_to(self.folder)

    def _answer(self, query: dict[str, list[str]]) -> None:
        try:
            numbers = [int(query[name][0]) for name in NUMBERS]
            answer = self.elements.window(query["model"][0], query["id"][0], *numbers)
        except (KeyError, ValueError):
            self._send(HTTPStatus.BAD_REQUEST, {"error": f"needed: model, id, {', '.join(NUMBERS)}"})
        except AtlasError as error:
            self._send(HTTPStatus.NOT_FOUND, {"error": error.what})
        else:
            self._send(HTTPStatus.OK, answer)

    def _send(self, status: HTTPStatus, value: dict) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def server(results: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the atlas of a folder of results on this machine's own address; port 0: any that is free."""
    folder = results / "atlas"
    handler = partial(Handler, elements=Elements(results), folder=folder)
    try:
        made = ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise AtlasError(
            f"cannot serve at port {port}: {error.strerror}", remedy="choose another one with --port, or 0 for any"
        ) from error
    made.daemon_threads = True
    return made
