"""Run a script's main(): as a job of the workflow, or from the command line.

One typed function serves both. In a job its parameters are bound by name: every named input and output of the rule,
every key of `params.options`, and, where main asks for them, wildcards, `threads` and `device`. From a shell the same
names are options: `python scripts/effective_rank.py --singular-values X --table Y --figure Z`.
"""

import ctypes
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.extras import missing_extra
from weight_atlas.file_errors import explained

# `options` is spread into main()'s keywords; `step` names the script, `code` only tells Snakemake when to run again.
NOT_ARGUMENTS = ("step", "code", "options")
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
            arguments, gpus = _from_command_line(main)
        else:
            _capture_output(job.log)
            _die_with_workflow()
            arguments, gpus = _from_job(main, job)
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


def outputs_of(main: Callable) -> list[str]:
    """The parameters of main() that are outputs: paths by keyword that must be given."""
    hints, wanted = get_type_hints(main), inspect.signature(main).parameters
    return [
        name
        for name, parameter in wanted.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty and hints[name] is Path
    ]


def _from_job(main: Callable, job: Any) -> tuple[dict[str, Any], int | None]:
    """Bind a job's names to main's parameters; a name that main lacks is an error at once."""
    hints, wanted = get_type_hints(main), inspect.signature(main).parameters
    given = {
        **dict(job.input.items()),
        **dict(job.output.items()),
        **{name: value for name, value in job.params.items() if name not in NOT_ARGUMENTS},
        **dict(job.params.get("options", {})),
    }
    offered = {**dict(job.wildcards.items()), "threads": job.threads, "device": "cpu"}
    given |= {name: value for name, value in offered.items() if name in wanted and name not in given}
    unknown, missing = _mismatch(given, wanted)
    if unknown or missing:
        raise TypeError(f"rule {job.rule} and main() disagree: main lacks {unknown}, the rule lacks {missing}")
    gpus = int(job.resources.get("gpu", 0)) if "device" in given else None
    return {name: _as_hinted(hints[name], value) for name, value in given.items()}, gpus


def _mismatch(given: Mapping[str, Any], wanted: Mapping[str, inspect.Parameter]) -> tuple[list[str], list[str]]:
    required = {name for name, parameter in wanted.items() if parameter.default is parameter.empty}
    return sorted(given.keys() - wanted.keys()), sorted(required - given.keys())


def _as_hinted(hint: Any, value: Any) -> Any:
    """Turn Snakemake's strings into Paths, and its own string and list types into plain ones."""
    if get_origin(hint) is UnionType:
        hint = next((part for part in get_args(hint) if part is not type(None)), hint)
    if hint is Path:
        return value if value is None else Path(value)
    if get_origin(hint) is list and value is not None:
        (item,) = get_args(hint)
        values = [value] if isinstance(value, str) else value
        return [_as_hinted(item, each) for each in values]
    return str(value) if isinstance(value, str) else value


def _from_command_line(main: Callable) -> tuple[dict[str, Any], int | None]:
    import cyclopts

    app = cyclopts.App(help_format="plaintext", help=inspect.getdoc(main), version_flags=[])
    app.default(main)
    try:
        command, bound, _ = app.parse_args(sys.argv[1:], exit_on_error=False)
    except cyclopts.CycloptsError:
        sys.exit(1)  # the message is printed
    if command is not main:  # --help
        sys.exit(command(*bound.args, **bound.kwargs))
    bound.apply_defaults()
    device = bound.arguments.get("device")
    return dict(bound.arguments), None if device is None else int(device == "cuda")


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
    from weight_atlas.workflow.gpu_lease import lease, visible_devices

    if gpus is None:
        yield "cpu"
    elif gpus and visible_devices():
        with lease(gpus) as devices:
            import torch

            usable = torch.cuda.is_available()
            reason = f"leased {', '.join(devices)}" if usable else "this torch cannot use the CUDA device"
            print(f"device: {'cuda' if usable else 'cpu'} ({reason})", flush=True)
            yield "cuda" if usable else "cpu"
    else:
        reason = "no GPU was given to this step" if visible_devices() else "no CUDA device on this machine"
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
