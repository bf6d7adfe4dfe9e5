"""A copy of the workflow, run as a user would: as a process, in a folder of its own."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
SMALL = ("--configfile", Path(__file__).with_name("small.yaml"))
PARTS = ("Snakefile", "rules", "scripts", "src", "config", "schemas", "profiles", "envs", "report")


class Project:
    """A copy of the workflow that a test may change; results stay in the copy."""

    def __init__(self, folder: Path):
        self.folder = folder
        # The copy's own library, not the installed one.
        self.environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "HF_HUB_OFFLINE": "1"}

    @classmethod
    def copy(cls, folder: Path) -> "Project":
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / part)
        return cls(folder)

    def watch_network(self) -> None:
        """Let every process refuse the network and write to network.log what it wanted there; see no_network."""
        del self.environment["HF_HUB_OFFLINE"]  # libraries that are told to stay offline would not try
        self.environment["PYTHONPATH"] += f":{Path(__file__).with_name('no_network')}"
        self.environment["NETWORK_LOG"] = str(self.folder / "network.log")

    def snakemake(self, *arguments: object, check: bool = True, **kwargs) -> subprocess.CompletedProcess:
        command = [SNAKEMAKE, "--cores", "4", *map(str, arguments)]
        options = {"cwd": self.folder, "env": self.environment, "capture_output": True, "text": True, **kwargs}
        done = subprocess.run(command, check=False, **options)
        if check and done.returncode:
            raise AssertionError(f"snakemake failed\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
        return done

    def would_run(self, *arguments: object) -> set[str]:
        """Names of the rules that a run would run now."""
        done = self.snakemake("--dry-run", "--quiet", "progress", *arguments)
        return set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", done.stdout + done.stderr, flags=re.M))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
