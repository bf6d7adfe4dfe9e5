"""Give each concurrent process on this machine its own GPUs.

Snakemake counts GPUs but hands out no device numbers. A lease is a kernel lock on one file per device: it is dropped
when its holder dies, however it dies.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weight_atlas.errors import AtlasError


def visible_devices() -> list[str]:
    """Names of the CUDA devices this process may use, as CUDA_VISIBLE_DEVICES would name them."""
    restricted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if restricted is not None:
        return [name.strip() for name in restricted.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    query = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return query.stdout.split() if query.returncode == 0 else []


@contextmanager
def lease(count: int, *, folder: Path | None = None, timeout: float | None = None) -> Iterator[list[str]]:
    """Hold `count` devices, set CUDA_VISIBLE_DEVICES to them, and yield their names.

    Waits for devices that other processes hold, for at most `timeout` seconds when given.
    Enter this before torch initialises CUDA.
    """
    devices = visible_devices()
    if count > len(devices):
        raise AtlasError(
            f"this step asks for {count} GPU(s), the machine offers {len(devices)}",
            remedy="lower gpus in the configuration, or run where there are enough",
        )
    held = _acquire(devices, count, folder or _lock_folder(), timeout)
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)
    try:
        yield list(held)
    finally:
        for descriptor in held.values():
            os.close(descriptor)
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _lock_folder() -> Path:
    # Local to the host, since device numbers are; and to the SLURM job, which may number its devices from 0 again.
    job = os.environ.get("SLURM_JOB_ID", "host")
    return Path(tempfile.gettempdir()) / f"weight-atlas-gpus-{socket.gethostname()}-{os.getuid()}-{job}"


def _acquire(devices: list[str], count: int, folder: Path, timeout: float | None) -> dict[str, int]:
    folder.mkdir(parents=True, exist_ok=True)
    start, pause = time.monotonic(), 0.02
    while (held := _try_acquire(devices, count, folder)) is None:
        if timeout is not None and time.monotonic() - start > timeout:
            raise AtlasError(f"no {count} free GPU(s) among {', '.join(devices)} after {timeout:g} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)
    return held


def _try_acquire(devices: list[str], count: int, folder: Path) -> dict[str, int] | None:
    """Take all or nothing: a process that held one device while waiting for another could wait for ever."""
    held: dict[str, int] = {}
    for device in devices:
        descriptor = os.open(folder / f"{device.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        held[device] = descriptor
        if len(held) == count:
            return held
    for descriptor in held.values():
        os.close(descriptor)
    return None
