"""Run a script's main(): as a job of the workflow, or from the command line.

One typed function serves both: weight_atlas.workflow.arguments binds its parameters.
"""

import ctypes
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from weight_atlas.errors import AtlasError, NotApplicable, explained, missing_extra, of_library
from weight_atlas.workflow.arguments import from_command_line, from_job, outputs_of
from weight_atlas.workflow.versions import VERSIONS, versions

# Where a job's output went before its log took it: a descriptor.
_TERMINAL = [2]


def run_step(main: Callable[..., None], namespace: dict[str, Any]) -> None:
    """Call main with the job that Snakemake put into the script's globals, else with the command line.

    An AtlasError ends the process with its message and exit code 1, and so does what the file system refuses;
    NotApplicable ends it with outputs that say why there is nothing in them. Any other exception is a defect and keeps
    its traceback.
    """
    job = namespace.get("snakemake")
    try:
        if job is None:
            arguments, gpus = from_command_line(main)
        else:
            _capture_output(job.log)
            _die_with_workflow()
            if job.log:
                _record_versions()
            arguments, gpus = from_job(main, job)
        try:
            with _held_device(gpus) as device:
                if "device" in arguments:
                    arguments["device"] = device
                _limit_threads(arguments.get("threads", 1 if job is None else job.threads))
                main(**arguments)
        except NotApplicable as error:
            _leave_reason(main, arguments, error)
        sys.stdout.flush()  # a log that cannot be written fails here rather than at the very end
    except AtlasError as error:
        _end(error)
    except OSError as error:
        if (message := explained(error)) is None:
            raise
        _end(message)
    except ModuleNotFoundError as error:
        if (message := missing_extra(error)) is None:
            raise
        _end(message)
    except BaseException as error:
        if (message := of_library(error)) is None:
            raise
        _end(message)


def _end(error: AtlasError) -> None:
    """Print a message and exit with code 1; on the terminal where the log cannot take it, as on a full disk."""
    try:
        print(f"error: {error}", file=sys.stderr, flush=True)
    except OSError:
        os.dup2(_TERMINAL[0], 1)
        os.dup2(_TERMINAL[0], 2)
        print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


def _leave_reason(main: Callable, arguments: dict[str, Any], error: NotApplicable) -> None:
    """Write each output of main() as an artifact that says why there is nothing in it."""
    from weight_atlas.not_applicable import write_not_applicable

    print(f"not applicable: {error}", flush=True)
    # Names in it may hold what UTF-8 does not.
    reason = error.what.encode(errors="backslashreplace").decode()
    for name in outputs_of(main):
        write_not_applicable(arguments[name], reason)


def _capture_output(log: Any) -> None:
    """Send all that this process prints, native libraries included, to the rule's log."""
    if log:
        sys.stdout.flush()
        sys.stderr.flush()
        descriptor = os.open(log[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        _TERMINAL[0] = os.dup(2)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        # A progress bar in a file never overwrites itself: now and then is enough.
        os.environ.setdefault("TQDM_MININTERVAL", "30")


def _record_versions() -> None:
    """Begin the log with the versions of libraries that the numbers may depend on."""
    found = {"python": platform.python_version(), **versions()}
    print(VERSIONS + ", ".join(f"{name} {number}" for name, number in found.items()), flush=True)


def _die_with_workflow() -> None:
    """Let the kernel, or a watching thread, kill this process when the workflow's own process is gone.

    Without this, jobs outlive a killed workflow and write beside the ones of its successor.
    """
    import psutil

    if sys.platform == "linux":
        death_of_parent = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(death_of_parent, signal.SIGKILL)
    workflow = next(filter(_is_workflow, psutil.Process().parents()), None)
    if workflow is None:
        sys.exit("the workflow that started this step is gone")  # while this process was still importing
    # A shell may stand between the workflow and this process and survive it: watch the workflow itself as well.
    threading.Thread(target=_kill_after, args=(workflow,), daemon=True).start()


def _is_workflow(process: Any) -> bool:
    import psutil

    try:
        return any("snakemake" in word for word in process.cmdline())
    except psutil.Error:  # gone meanwhile, or not ours to look at
        return False


def _kill_after(workflow: Any) -> None:
    while workflow.is_running():
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _held_device(gpus: int | None) -> Iterator[str]:
    """Lease GPUs for the length of the step and yield "cuda", or "cpu" when there are none; say which.

    gpus: how many the step was given; None if it has no use for one.
    """
    from weight_atlas.workflow.gpu_lease import lease
    from weight_atlas.workflow.gpus import visible_devices

    if gpus is None:
        yield "cpu"
        return
    devices = visible_devices()
    if gpus and devices:
        with lease(gpus, devices=devices) as names:
            import torch

            usable = torch.cuda.is_available()
            reason = f"leased {', '.join(names)}" if usable else "this torch cannot use the CUDA device"
            print(f"device: {'cuda' if usable else 'cpu'} ({reason})", flush=True)
            yield "cuda" if usable else "cpu"
    else:
        reason = "no GPU was given to this step" if devices else "no CUDA device on this machine"
        print(f"device: cpu ({reason})", flush=True)
        yield "cpu"


def _limit_threads(threads: int) -> None:
    """Hold BLAS, OpenMP and torch to the threads of this step: more threads than cores make all of them slow."""
    import threadpoolctl

    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if threads > 1 else "false")
    threadpoolctl.threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
