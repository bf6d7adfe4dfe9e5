"""The process that WarmProcess starts: it loads the libraries of scripts and forks for each script that it is to run.

It has one thread (and one of jemalloc's, which knows of forks) and runs nothing, so that its forks start clean. It ends
with the one who asks, and its forks with it.

Libraries are loaded here when the first script needs them, and no sooner: what a script imports at its top, before it
is forked; what is imported later and takes long, when a young fork comes to it. That fork then gives up,
before it has done anything that counts, and another one takes its place, in which the library is there.
"""

import ast
import atexit
import ctypes
import gc
import importlib
import importlib.abc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

# What takes more than about a tenth of a second to import, is imported inside functions, and starts no thread.
SLOW = frozenset(
    {
        "accelerate", "datasets", "huggingface_hub", "jinja2", "lm_eval", "lm_eval.api.model", "lm_eval.evaluator",
        "lm_eval.tasks", "matplotlib.pyplot", "numba", "scipy.linalg", "scipy.optimize", "scipy.sparse",
        "scipy.special", "scipy.stats", "seaborn", "tokenizers", "torch", "transformers", "transformers.modeling_utils",
        "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    }
)  # fmt: skip
YOUNG = 0.5  # CPU seconds that a fork may have worked for nothing


@dataclass
class Fork:
    """A process that runs a script. asked: where the one who asked for it listens; wants: what it gives up for."""

    pid: int
    request: dict[str, Any]
    asked: socket.socket
    wants: int


def main(descriptor: int) -> NoReturn:
    """Take requests from a socket until it is closed."""
    requests = socket.socket(fileno=descriptor)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is for the steps
    gc.disable()  # importing makes much and no garbage
    importlib.import_module("weight_atlas.workflow.step")
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    selector.unregister(key.fileobj)
                    _see_end(key, selector, interrupt)
                    continue
                message, descriptors, _, _ = socket.recv_fds(requests, 1 << 16, 1)
                if not message:
                    os._exit(0)  # its forks end with it
                request = json.loads(message)
                _load_imports(Path(request["script"]))
                _fork(request, socket.socket(fileno=descriptors[0]), selector, interrupt)


def _fork(request: dict[str, Any], asked: socket.socket, selector: selectors.BaseSelector, interrupt: Any) -> None:
    gc.freeze()  # what is collected is written to, and what a fork writes to is no longer shared
    parent, (wants, tells) = os.getpid(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _die_with(parent)
        signal.signal(signal.SIGINT, interrupt)
        selector.close()
        asked.close()
        _run(request, tells)
    os.close(tells)
    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, Fork(pid, request, asked, wants))
    _say(asked, f"pid {pid}")


def _see_end(key: selectors.SelectorKey, selector: selectors.BaseSelector, interrupt: Any) -> None:
    """Report the exit code of a fork, or fork again with the library that the first fork lacked."""
    fork: Fork = key.data
    os.close(key.fd)
    _, status = os.waitpid(fork.pid, 0)
    with open(fork.wants, "rb") as wants:  # noqa: PTH123 - a descriptor
        name = wants.read().decode()
    if name:
        _load(name)
        _fork(fork.request, fork.asked, selector, interrupt)
        return
    code = os.waitstatus_to_exitcode(status)
    with fork.asked:
        _say(fork.asked, f"code {code if code >= 0 else 128 - code}")


def _say(asked: socket.socket, text: str) -> None:
    with suppress(OSError):  # nobody listens any more
        asked.send(text.encode())


def _load_imports(script: Path) -> None:
    """Import here what a script imports at its top."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):  # the fork says so
        return
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            code = compile(ast.Module([node], []), str(script), "exec")
            with suppress(Exception):
                exec(code, {})


def _load(name: str) -> None:
    with suppress(Exception):  # the fork fails with it as it would without this
        importlib.import_module(name)


def _die_with(parent: int) -> None:
    death_of_parent = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(death_of_parent, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class _GivesUp(importlib.abc.MetaPathFinder):
    """Ends a young fork that comes to import something slow, which its parent then does for it and all later ones."""

    def __init__(self, tells: int):
        self.tells, self.tried = tells, set(sys.modules)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in SLOW and name not in self.tried and time.process_time() < YOUNG:
            os.write(self.tells, name.encode())
            os._exit(0)


def _run(request: dict[str, Any], tells: int) -> NoReturn:
    """Run a script in this fork as Python would, and end it, without taking apart what was loaded, which takes long."""
    atexit._clear()
    gc.enable()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    sys.argv = [request["script"]]
    sys.path.insert(0, str(Path(request["script"]).parent))
    sys.meta_path.insert(0, _GivesUp(tells))
    code: object = 0
    try:
        runpy.run_path(request["script"], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        code = 1
        traceback.print_exception(error)
    if isinstance(code, str):
        print(code, file=sys.stderr)
    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that must not be cut short
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main(int(sys.argv[1]))
