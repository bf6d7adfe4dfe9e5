"""Python imports this at its start where the folder is on PYTHONPATH: it refuses the network and writes attempts down.

NETWORK_LOG: the file to write to, one line for each process and each attempt.
"""

import os
import socket
from pathlib import Path

LOCAL = ("localhost", "127.0.0.1", "::1", None, "")


def note(line):
    with Path(os.environ["NETWORK_LOG"]).open("a") as log:
        log.write(f"{line}\n")


def refuse_unless_local(function, host_of):
    def guarded(*arguments, **keywords):
        if (host := host_of(arguments)) not in LOCAL:
            note(f"{function.__name__} {host}")
            raise OSError(f"this test has no network: {host}")
        return function(*arguments, **keywords)

    return guarded


def host_of_socket(arguments):
    internet = arguments[0].family in (socket.AF_INET, socket.AF_INET6)
    return arguments[1][0] if internet else None


note("started")
socket.getaddrinfo = refuse_unless_local(socket.getaddrinfo, lambda arguments: arguments[0])
for name in ("connect", "connect_ex"):
    setattr(socket.socket, name, refuse_unless_local(getattr(socket.socket, name), host_of_socket))
