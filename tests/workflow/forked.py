"""Snakemake and its jobs in processes that are forked from one which has the libraries loaded.

A small run spends nearly all its time on importing torch, transformers and others, once a job. The process that loads
them, once for all runs of a test session, is this file, started as a script. It does not load weight_atlas, which every
fork imports from its own project, and has no threads, so that its forks start clean. What is forked is a process like
any other: Snakemake itself, or a script as Snakemake wrote it, with its own directory, environment, output and exit
code. Only that a job dies with its workflow does not hold here; `test_crash` holds it of real runs.
"""

import importlib
import os
import pickle
import resource
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path

LIBRARIES = (
    "accelerate", "datasets", "gguf", "huggingface_hub", "jinja2", "matplotlib.pyplot", "numba", "pandas", "psutil",
    "pyarrow.parquet", "pydantic", "rich.console", "scipy.optimize", "scipy.stats", "seaborn", "snakemake.cli",
    "snakemake.script", "threadpoolctl", "torch", "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto", "transformers.models.llama.modeling_llama",
)  # fmt: skip


@cache
def server() -> str:
    """The address of this session's process with the libraries loaded, started when first asked for."""
    address = str(Path(tempfile.mkdtemp(prefix="forks-")) / "socket")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}  # read at import
    command = [sys.executable, __file__, address]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n", "the libraries cannot be loaded"
    return address


def ask(address: str, request: dict) -> int:
    """Have a fork do what is asked, and return its exit code when it is gone.

    run: "snakemake", with `arguments`, or "script", a path; cwd, environment; output, error: files to append to.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(pickle.dumps({**request, "address": address}))
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile().read()
    return int(answer) if answer else -signal.SIGKILL  # it could not say anything any more


def main(address: str) -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    spent = Path(address).with_name("cpu_seconds")
    signal.signal(signal.SIGCHLD, lambda *_: _count(spent))
    _count(spent)
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        listener.settimeout(2)
        print("ready", flush=True)
        while os.getppid() == parent:  # no longer than the tests
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                if os.fork() == 0:
                    listener.close()
                    _answer(connection)
    shutil.rmtree(Path(address).parent)


def cpu_seconds() -> float:
    """What this session's process and its forks have taken so far; forks that still run do not count."""
    return float(Path(server()).with_name("cpu_seconds").read_text()) if server.cache_info().currsize else 0.0


def _count(spent: Path) -> None:
    """Let the kernel forget forks that are gone, and write down what they and this process took."""
    with suppress(ChildProcessError):  # none is left
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    written = spent.with_suffix(".new")
    written.write_text(str(sum(usage.ru_utime + usage.ru_stime for usage in usages)))
    written.replace(spent)


def _answer(connection: socket.socket) -> None:
    """Do in this fork what a connection asks for, and end it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code: object = 1
    try:
        request = pickle.load(connection.makefile("rb"))
        _become(request)
        {"snakemake": _run_snakemake, "script": _run_script}[request["run"]](request)
        code = 0
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        connection.sendall(str(code).encode())
        os._exit(0)


def _become(request: dict) -> None:
    for number, name in enumerate(("output", "error"), start=1):
        descriptor = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, number)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.path[:1] = filter(None, os.environ.get("PYTHONPATH", "").split(":"))  # in place of this file's folder
    assert "weight_atlas" not in sys.modules


def _run_snakemake(request: dict) -> None:
    from snakemake.cli import main
    from snakemake.script import PythonScript

    def execute(self, fname, edit=False):
        command = {"run": "script", "script": fname, "cwd": str(Path.cwd()), "environment": dict(os.environ)}
        files = {name: request[name] for name in ("output", "error")}
        started = time.monotonic()
        if code := ask(request["address"], command | files):
            raise subprocess.CalledProcessError(code, fname)
        if self.bench_record is not None:
            self.bench_record.running_time = time.monotonic() - started

    PythonScript.execute_script = execute
    sys.argv = ["snakemake", *request["arguments"]]
    main()


def _run_script(request: dict) -> None:
    from weight_atlas.workflow import step

    step._die_with_workflow = lambda: None  # which is not among this process's parents
    sys.argv = [request["script"]]
    runpy.run_path(request["script"], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
