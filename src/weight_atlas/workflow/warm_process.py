"""Steps of this machine in forks of one process, which has their libraries loaded: an import is paid once a run.

A small step spends nearly all its time on importing torch, pandas and others. Snakemake starts each script as a process
of its own; rules/run.smk hands the scripts of this workflow to the process here (weight_atlas.workflow.forks). A fork
is a process like any other, with its own log, exit code, memory and times.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from threading import Lock

KILLED = 128 + 9  # the exit code of what was killed, as shells have it


class NotForked(Exception):
    """The process that would fork is not there: the script is still to be run, as a process of its own."""


class WarmProcess:
    """The process that forks, started for the first script, and started again where it was killed meanwhile."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen | None = None
        self._requests: socket.socket | None = None

    def run(self, script: str, environment: dict[str, str], watch: Callable[[int], AbstractContextManager]) -> int:
        """Run a script as Python's main program and return its exit code, when it has ended; NotForked if it cannot.

        environment: variables that are other ones than this process's. watch: called with the number of each process
        that runs it, and entered while that one runs; of several the last one runs it to the end.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, ExitStack() as watched:
            with theirs, self._lock:
                request = json.dumps({"script": script, "environment": environment}).encode()
                try:
                    socket.send_fds(self._started(), [request], [theirs.fileno()])
                except OSError as error:
                    raise NotForked from error
            running = False
            while said := _received(ours):
                kind, number = said.split()
                if kind == b"code":
                    return int(number)
                running = True
                watched.close()
                watched.enter_context(watch(int(number)))
            if not running:
                raise NotForked
            return KILLED  # and with it the process that forked it

    def _started(self) -> socket.socket:
        if self._requests is None or self._process is None or self._process.poll() is not None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # -P: what lies in the folder where it is started is no library.
            command = [sys.executable, "-P", "-m", "weight_atlas.workflow.forks", str(theirs.fileno())]
            # More than one thread of BLAS would be threads of a process that forks; steps set their own number.
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            with theirs:
                self._process = subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
                )
                atexit.register(self._end, self._process, ours)
            self._requests = ours
        return self._requests

    @staticmethod
    def _end(process: subprocess.Popen, requests: socket.socket) -> None:
        requests.close()
        process.wait()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(64)
    except ConnectionError:
        return b""
