"""A copy of the workflow, run in a folder of its own."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import forked

from weight_atlas.digest_records import OWN_FOLDER

ROOT = Path(__file__).parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
SMALL = ("--configfile", "small.yaml")
TOOK = "atlas/steps.js"  # below the results: stands outside the promise of equal bytes
Done = subprocess.CompletedProcess[str]
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
                # Not the compiled modules, which know where they come from; but numba's kernels, which take long.
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("*.pyc", "*.egg-info"))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / part)
        return cls(folder)

    @classmethod
    def small(cls, folder: Path) -> "Project":
        """A copy for runs with SMALL, and the model and text that it names."""
        project = cls.copy(folder)
        shutil.copy2(Path(__file__).with_name("small.yaml"), folder)
        shutil.copytree(folder / "src/weight_atlas/data/demo/model", folder / "model")
        (folder / "texts").mkdir()
        captions = "\n\n".join(path.read_text() for path in sorted((folder / "report").glob("*.rst")))
        (folder / "texts/one.txt").write_text(captions * 2)
        return project

    def watch_network(self) -> None:
        """Let every process refuse the network and write to network.log what it wanted there; see no_network."""
        del self.environment["HF_HUB_OFFLINE"]  # libraries that are told to stay offline would not try
        self.environment["PYTHONPATH"] += f":{Path(__file__).with_name('no_network')}"
        self.environment["NETWORK_LOG"] = str(self.folder / "network.log")

    def snakemake(self, *arguments: object, check: bool = True) -> Done:
        """Run Snakemake and its jobs in forks, which spare a test what importing the libraries takes; see forked."""
        with tempfile.TemporaryDirectory() as folder:
            output, error = Path(folder) / "output", Path(folder) / "error"
            request = {"run": "snakemake", "arguments": ["--cores", "4", *map(str, arguments)]}
            request |= {"cwd": str(self.folder), "environment": self.environment}
            code = forked.ask(forked.server(), request | {"output": output, "error": error})
            done = subprocess.CompletedProcess(arguments, code, output.read_text(), error.read_text())
        return self._checked(done) if check else done

    def start_snakemake(self, *arguments: object, check: bool = True, **kwargs) -> Done:
        """Run Snakemake as a user does: it and each of its jobs is a new process."""
        command = [SNAKEMAKE, "--cores", "4", *map(str, arguments)]
        options = {"cwd": self.folder, "env": self.environment, "capture_output": True, "text": True, **kwargs}
        done = subprocess.run(command, check=False, **options)
        return self._checked(done) if check else done

    @staticmethod
    def _checked(done: Done) -> Done:
        if done.returncode:
            raise AssertionError(f"snakemake failed\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
        return done

    def would_run(self, *arguments: object) -> set[str]:
        """Names of the rules that a run would run now."""
        done = self.snakemake("--dry-run", "--quiet", "progress", *arguments)
        return set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", done.stdout + done.stderr, flags=re.M))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, but of what says how long steps took, and of records, which know times."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    kept = {name: path for name, path in files.items() if name != TOOK and OWN_FOLDER not in path.parts}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in kept.items()}
