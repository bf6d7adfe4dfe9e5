"""A SLURM of two nodes on loopback: installed from Debian packages, started and stopped by pid.

It needs root, no systemd, no cgroups and no database. A node is a daemon with a host name, a table of processes and an
address of its own (127.0.0.2, 127.0.0.3); its GPUs are character devices that nothing opens. The controller remembers
for an hour what each job got, which takes the place of an accounting database.

    python tests/workflow/slurm_cluster.py       # prints the environment to work with it, until it is interrupted
"""

import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

# Declared, whatever this machine has: the tests then say the same on every machine. Two CPUs are the least that the
# profile counts on.
NODES = ("atlas1", "atlas2")
CPUS, MEMORY_MB, GPUS = 2, 24000, 2  # of each node
NVIDIA_MAJOR = 195

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=3600
JobRequeue=1
SlurmdTimeout=10
SlurmctldTimeout=10
OverTimeLimit=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=100000
PriorityType=priority/basic
MpiDefault=none
ReturnToService=2
KillWait=5
EnforcePartLimits=ALL
DefMemPerCPU=100
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeAddr={address} CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN"
CGROUPS = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\n"


def install() -> None:
    """Install SLURM and its authentication service where they are missing."""
    if shutil.which("slurmctld") and shutil.which("munged"):
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    packages = ["slurm-wlm", "munge"]
    subprocess.run(
        ["apt-get", "install", "-qq", "--no-install-recommends", *packages],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )


class Cluster:
    """Start with `with Cluster() as cluster:`; cluster.environment finds this cluster's commands."""

    def __init__(self) -> None:
        # Not below pytest's folder, which other users, munge among them, may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="weight-atlas-slurm-"))
        folder = self.folder
        self._nodes: dict[str, subprocess.Popen] = {}
        self.environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        }

    def __enter__(self) -> "Cluster":
        for name in ("munge", "state", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        try:
            self._start_munge()
            self._configure()
            subprocess.run(["slurmctld"], env=self.environment, check=True)
            for node in NODES:
                self.start(node)
            self._await_idle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _stop(self.folder / "slurmctld.pid")
        for node in list(self._nodes):
            self.lose(node)
        _stop(self.folder / "munged.pid")
        shutil.rmtree(self.folder)

    def start(self, node: str) -> None:
        """Start a node, in namespaces of its own: its first process takes all others with it when it ends."""
        # The daemon listens where its host's name leads.
        commands = f"mount --bind {self.folder}/hosts /etc/hosts && hostname {node} && exec slurmd -D -N {node}"
        self._nodes[node] = subprocess.Popen(
            ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", commands],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def lose(self, node: str) -> None:
        """Kill all processes of a node at once, as when its power fails."""
        process = self._nodes.pop(node)
        process.kill()
        process.wait()

    def run(self, *command: str) -> str:
        """The output of one of the cluster's commands."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def jobs(self, run: str) -> list[dict[str, str]]:
        """What the controller remembers of the jobs of that name: JobState, NodeList, TRES, TresPerJob, Comment, ..."""
        texts = self.run("scontrol", "--details", "show", "job").split("\n\n")
        found = [dict(re.findall(r"(\S+?)=(\S*)", text)) for text in texts]
        return [job for job in found if job.get("JobName") == run]

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        (folder / "key").write_bytes(os.urandom(1024))
        (folder / "key").chmod(0o400)
        shutil.chown(folder / "key", "munge", "munge")
        shutil.chown(folder, "munge", "munge")
        folder.chmod(0o755)
        (self.folder / "munged.pid").symlink_to("munge/pid")
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={folder / name}" for option, name in files.items()]
        user = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
        subprocess.run([*user, "munged", "--num-threads=2", *options], check=True)

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        controller_port, node_port = _free_ports()
        addresses = {name: f"127.0.0.{number}" for number, name in enumerate(NODES, start=2)}
        nodes = [
            NODE.format(name=name, address=address, cpus=CPUS, memory=MEMORY_MB, gpus=GPUS)
            for name, address in addresses.items()
        ]
        local = dict.fromkeys(["localhost", host, *NODES], "127.0.0.1")
        for file, hosts in (("hosts", local | addresses), ("hosts-of-srun", local)):
            (self.folder / file).write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
        text = CONFIGURATION.format(
            host=host,
            folder=self.folder,
            controller_port=controller_port,
            node_port=node_port,
            nodes="\n".join(nodes),
            names=",".join(NODES),
        )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").write_text(CGROUPS)
        devices = [self.folder / f"nvidia{index}" for index in range(GPUS)]
        for index, device in enumerate(devices):
            # A plain file will not do: without character devices SLURM counts GPUs but names none to the job.
            os.mknod(device, 0o600 | 0o020000, os.makedev(NVIDIA_MAJOR, index))
        gres = f"AutoDetect=off\nNodeName={','.join(NODES)} Name=gpu File={self.folder}/nvidia[0-{GPUS - 1}]\n"
        (self.folder / "gres.conf").write_text(gres)
        # The executor's job step drops SLURM_CONF from its environment before it calls srun. Who connects by loopback
        # has 127.0.0.1 for its address, and there srun is called back: it has to listen there.
        srun = self.folder / "bin" / "srun"
        listen = f'mount --bind {self.folder}/hosts-of-srun /etc/hosts && exec {shutil.which("srun")} "$@"'
        script = f"export SLURM_CONF={self.folder}/slurm.conf\nexec unshare --mount sh -c '{listen}' srun \"$@\"\n"
        srun.write_text(f"#!/bin/sh\n{script}")
        srun.chmod(0o755)

    def _await_idle(self) -> None:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            state = subprocess.run(
                ["sinfo", "-h", "-N", "-o", "%t"], env=self.environment, capture_output=True, text=True
            )
            if state.stdout.split() == ["idle"] * len(NODES):
                return
            time.sleep(0.2)
        logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
        raise RuntimeError(f"the test cluster does not come up: {state.stdout} {state.stderr}\n{logs}")


def _free_ports() -> list[int]:
    """Two ports that are free, from below those that the kernel hands to others before SLURM comes to take them."""
    found: list[int] = []
    for port in random.sample(range(10_000, 32_000), 100):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            found.append(port)
    return found[:2]


def _stop(pid_file: Path) -> None:
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        for _ in range(50):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return


if __name__ == "__main__":
    install()
    with Cluster() as here:
        for name in ("SLURM_CONF", "PATH"):
            print(f"export {name}={shlex.quote(here.environment[name])}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
