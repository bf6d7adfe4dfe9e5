"""Steps that run on this machine are forks of one process, which has their libraries loaded (workflow/warm_process.py).

Required: ROOT.
Produces: nothing; `keep_warm` for `onstart:`, which jobs of a cluster do not run.
"""

import subprocess
import time
from contextlib import ExitStack, contextmanager

import psutil
from snakemake.benchmark import benchmarked
from snakemake.script import PythonScript
from weight_atlas.workflow.warm_process import NotForked, WarmProcess


def keep_warm():
    """Let Snakemake hand over the scripts of this workflow where it would start a process of this same Python."""
    as_before = PythonScript.execute_script
    if sys.platform != "linux" or as_before.__module__ != "snakemake.script":
        return
    warm = WarmProcess()

    def execute_script(self, fname, edit=False):
        ours = self.is_local and Path(self.local_path).resolve().parent == ROOT / "scripts"
        if not ours or edit or self.conda_env or self.container_img or self.env_modules:
            return as_before(self, fname, edit)
        started, record = time.time(), self.bench_record
        temporary = self.resources.get("tmpdir")
        environment = {name: str(temporary) for name in ("TMPDIR", "TMP", "TEMP", "TEMPDIR") if temporary}
        try:
            code = warm.run(fname, environment, lambda pid: measured(pid, record))
        except NotForked:
            return as_before(self, fname, edit)
        if record:
            record.running_time = time.time() - started
        if code:
            raise subprocess.CalledProcessError(code, f"{sys.executable} {fname}")

    PythonScript.execute_script = execute_script


@contextmanager
def measured(pid, record):
    """Take the times and memory of a process for a benchmark, if there is one, as of a process that a shell runs."""
    with ExitStack() as watched:
        if record:
            try:
                watched.enter_context(benchmarked(pid, record))
            except psutil.NoSuchProcess:
                record.process_gone = True  # before it could be looked at
        yield
