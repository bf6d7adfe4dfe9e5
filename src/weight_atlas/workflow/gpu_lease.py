"""Give each concurrent process on this machine its own GPUs, whoever runs it.

Snakemake counts GPUs but hands out no devices. A lease is a lock on one file per device, see gpu_locks. A slice of a
card (MIG) takes the card's lock shared with other slices, and its own alone.
"""

import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from weight_atlas.errors import AtlasError
from weight_atlas.workflow import gpu_locks
from weight_atlas.workflow.gpu_locks import ALONE, SHARED, Lock
from weight_atlas.workflow.gpus import Device, visible_devices

# What tells a job of a cluster from others. Where the cluster assigns devices nobody outside of the job has them, and
# each job may number its own from 0.
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID")
_SAID_EVERY = 300  # seconds


class _Held(NamedTuple):
    names: list[str]
    locks: list[Lock]


@contextmanager
def lease(
    count: int, *, devices: Sequence[Device] | None = None, folder: Path | None = None, timeout: float | None = None
) -> Iterator[list[str]]:
    """Hold `count` devices, set CUDA_VISIBLE_DEVICES to them, and yield their names.

    Waits for devices that other processes hold, for at most `timeout` seconds when given, and prints for whom. Those
    of the cards with the least memory in use are taken first. devices: to choose from, those that are visible by
    default. Enter this before torch initialises CUDA.
    """
    devices = visible_devices() if devices is None else devices
    if count > len(devices):
        raise AtlasError(
            f"this step asks for {count} GPU(s), the machine offers {len(devices)}",
            remedy="lower gpus in the configuration, or run where there are enough",
        )
    with ExitStack() as stack:
        held = _acquire(devices, count, folder or gpu_locks.shared_folder("weight-atlas-gpus"), timeout)
        for lock in held.locks:
            stack.callback(lock.release)
        stack.enter_context(gpu_locks.kept(held.locks))
        stack.enter_context(_environment("CUDA_VISIBLE_DEVICES", ",".join(held.names)))
        yield held.names


@contextmanager
def _environment(variable: str, value: str) -> Iterator[None]:
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def _acquire(devices: Sequence[Device], count: int, folder: Path, timeout: float | None) -> _Held:
    folder.mkdir(parents=True, exist_ok=True)
    in_order = sorted(devices, key=lambda device: device.used)  # equal ones in CUDA's order
    start, said, pause = time.monotonic(), None, 0.02
    while (held := _try_acquire(in_order, count, folder)) is None:
        now = time.monotonic()
        if timeout is not None and now - start > timeout:
            names = ", ".join(device.name for device in devices)
            raise AtlasError(f"no {count} free GPU(s) among {names} after {timeout:g} s")
        if said is None or now - said > _SAID_EVERY:
            said = now
            print(f"waiting for {count} of {len(devices)} GPU(s): {_with_holders(devices, folder)}", flush=True)
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(pause * 1.5, 1.0)
    if said is not None:
        print(f"waited {time.monotonic() - start:.0f} s", flush=True)
    return held


def _try_acquire(devices: Sequence[Device], count: int, folder: Path) -> _Held | None:
    """Take all or nothing: a process that held one device while waiting for another could wait for ever."""
    held = _Held([], [])
    with ExitStack() as undo:
        for device in devices:
            if (locks := _try_device(device, folder)) is None:
                continue
            for lock in locks:
                undo.callback(lock.release)
            held.names.append(device.name)
            held.locks.extend(locks)
            if len(held.names) == count:
                undo.pop_all()
                return held
    return None


def _try_device(device: Device, folder: Path) -> list[Lock] | None:
    locks: list[Lock] = []
    for path, kind in _files(device, folder):
        if (lock := gpu_locks.try_lock(path, kind)) is None:
            for other in locks:
                other.release()
            return None
        locks.append(lock)
    return locks


def _files(device: Device, folder: Path) -> list[tuple[Path, int]]:
    """The files of a device, with the kind of lock that it takes on each."""
    job = next((os.environ[name] for name in _JOBS if name in os.environ), None)
    owner = f"job-{job}-" if job and "CUDA_VISIBLE_DEVICES" in os.environ else ""
    names = [(device.card, SHARED), (device.slice, ALONE)] if device.slice else [(device.card, ALONE)]
    return [(folder / f"{_plain(owner + name)}.lock", kind) for name, kind in names]


def _plain(name: str) -> str:
    return "".join(character if character.isalnum() or character in "-." else "_" for character in name)


def _with_holders(devices: Sequence[Device], folder: Path) -> str:
    """The devices, each with the process that holds it, where the kernel shows it."""
    known = gpu_locks.holders()
    words = []
    for device in devices:
        of_device = [known.get(_number(path)) for path, _ in reversed(_files(device, folder))]
        holder = next(filter(None, of_device), None)
        words.append(f"{device.name} ({_process(holder)})" if holder else device.name)
    return ", ".join(words)


def _number(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:  # released meanwhile
        return None


def _process(number: int) -> str:
    import psutil

    try:
        return f"held by process {number} of {psutil.Process(number).username()}"
    except psutil.Error:  # gone meanwhile
        return f"held by process {number}"
