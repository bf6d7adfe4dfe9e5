"""Many processes that want few devices: `python crowd_of_leases.py FOLDER PROCESSES SECONDS KILLS` prints what it saw.

Each process, while it has a lease, binds a socket of the device's name, which the kernel gives to one process at a
time and takes back when that dies: a second holder of a device would be refused. Some holders are killed.
"""

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

from weight_atlas.workflow.gpu_lease import lease
from weight_atlas.workflow.gpus import Device

DEVICES = [Device("0", "0"), Device("1", "1")]
HELD_TWICE = 3  # exit code


def hold(folder: Path, seconds: float) -> int:
    """Lease one or two devices and look whether somebody else holds them."""
    wanted = random.choice([1, 1, 2])
    witnesses = [socket.socket(socket.AF_UNIX) for _ in range(wanted)]  # closed before the locks when this one dies
    with lease(wanted, devices=DEVICES, folder=folder) as names:
        for witness, name in zip(witnesses, names, strict=True):
            try:
                witness.bind(f"\0{folder}/{name}")
            except OSError:
                return HELD_TWICE
        mark = folder / f"{os.getpid()}.holds"
        mark.touch()
        time.sleep(random.uniform(0, seconds))
        mark.unlink()
        for witness in witnesses:
            witness.close()
    return 0


def main(folder: Path, processes: int, seconds: float, kills: int) -> None:
    """Start the crowd, kill some that hold devices, and count how all of them end."""
    crowd = []
    for number in range(processes):
        if (child := os.fork()) == 0:
            random.seed(number)
            code = 1
            try:
                code = hold(folder, seconds)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        crowd.append(child)
    killed, end = set(), time.monotonic() + 60
    while len(killed) < kills and time.monotonic() < end:
        if holders := {int(path.stem) for path in folder.glob("*.holds")} - killed:
            killed.add(holder := random.choice(sorted(holders)))
            os.kill(holder, signal.SIGKILL)
            time.sleep(random.uniform(0, seconds))
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in crowd]
    ends = {0: "done", HELD_TWICE: "held twice", -signal.SIGKILL: "killed"}
    print(json.dumps({name: codes.count(code) for code, name in ends.items()} | {"processes": len(codes)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
