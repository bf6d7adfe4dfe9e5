"""A one-node SLURM on loopback for the tests: installed from Debian packages, started and stopped by pid.

It needs root, no systemd, no cgroups and no database. Its GPUs are character devices that nothing opens.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# Declared, whatever this machine has: the tests then say the same on every machine. Two CPUs are the least that the
# profile counts on.
CPUS, MEMORY_MB, GPUS = 2, 24000, 2
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
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
PriorityType=priority/basic
MpiDefault=none
ReturnToService=2
KillWait=5
EnforcePartLimits=ALL
DefMemPerCPU=100
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
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
    """Start with `with Cluster() as environment:`; the environment finds this cluster's commands."""

    def __init__(self) -> None:
        # Not below pytest's folder, which other users, munge among them, may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="weight-atlas-slurm-"))
        folder = self.folder
        self.environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        }

    def __enter__(self) -> dict[str, str]:
        for name in ("munge", "state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        try:
            self._start_munge()
            self._configure()
            for daemon in ("slurmctld", "slurmd"):
                subprocess.run([daemon], env=self.environment, check=True)
            self._await_idle()
        except BaseException:
            self.__exit__()
            raise
        return self.environment

    def __exit__(self, *_: object) -> None:
        for daemon in ("slurmctld", "slurmd", "munged"):
            _stop(self.folder / f"{daemon}.pid")
        self._stop_job_steps()
        shutil.rmtree(self.folder)

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
        text = CONFIGURATION.format(
            host=host,
            folder=self.folder,
            controller_port=controller_port,
            node_port=node_port,
            cpus=CPUS,
            memory=MEMORY_MB,
            gpus=GPUS,
        )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").write_text(CGROUPS)
        devices = [self.folder / f"nvidia{index}" for index in range(GPUS)]
        for index, device in enumerate(devices):
            # A plain file will not do: without character devices SLURM counts GPUs but names none to the job.
            os.mknod(device, 0o600 | 0o020000, os.makedev(NVIDIA_MAJOR, index))
        gres = f"AutoDetect=off\nNodeName={host} Name=gpu File={self.folder}/nvidia[0-{GPUS - 1}]\n"
        (self.folder / "gres.conf").write_text(gres)
        # The executor's job step drops SLURM_CONF from its environment before it calls srun.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nexport SLURM_CONF={self.folder}/slurm.conf\nexec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)

    def _await_idle(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            state = subprocess.run(["sinfo", "-h", "-o", "%t"], env=self.environment, capture_output=True, text=True)
            if state.stdout.strip() == "idle":
                return
            time.sleep(0.2)
        logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
        raise RuntimeError(f"the test cluster does not come up: {state.stdout} {state.stderr}\n{logs}")

    def _stop_job_steps(self) -> None:
        """Job step managers outlive their daemon by design: stop the ones of this cluster."""
        own = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "comm").read_text() == "slurmstepd\n" and own in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue


def _free_ports() -> list[int]:
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


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
