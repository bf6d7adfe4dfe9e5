"""Many processes that want few devices: `python crowd_of_leases.py FOLDER PROCESSES SECONDS KILLS` prints what it saw.

Each process, while it has a lease, keeps a link of the device's name to its own number: a second holder of a device
would find it there. Some holders are killed, which are marked before, since what they leave says nothing. (What the
kernel takes back from the dead would not serve: of what one had open, Linux closes the last first, so the locks first.)
"""

import json
import os
import random
import signal
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
    with lease(random.choice([1, 1, 2]), devices=DEVICES, folder=folder) as names:
        links = [folder / f"{name}.holder" for name in names]
        if any(is_held(link) for link in links):
            return HELD_TWICE
        for link in links:
            link.symlink_to(str(os.getpid()))
        mark = folder / f"{os.getpid()}.holds"
        mark.touch()
        time.sleep(random.uniform(0, seconds))
        mark.unlink()
        for link in links:
            link.unlink()
    return 0


def is_held(link: Path) -> bool:
    """Whether a link is of a holder that lives; that of a killed one is removed."""
    if not link.is_symlink():
        return False
    if not link.with_name(f"{link.readlink()}.killed").exists():
        return True
    link.unlink()
    return False


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
            (folder / f"{holder}.killed").touch()
            os.kill(holder, signal.SIGKILL)
            time.sleep(random.uniform(0, seconds))
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in crowd]
    ends = {0: "done", HELD_TWICE: "held twice", -signal.SIGKILL: "killed"}
    print(json.dumps({name: codes.count(code) for code, name in ends.items()} | {"processes": len(codes)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
