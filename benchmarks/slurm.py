"""What a job costs that is submitted to SLURM, beside its own work: many jobs that are ready at once, with the profile.

    python benchmarks/slurm.py                 # 300 jobs, each by itself
    python benchmarks/slurm.py --together 10   # in groups of ten, as what follows from one table

It brings up the cluster of tests/workflow/slurm_cluster.py (which needs root), and fails where a job is lost. Overhead
in CPU seconds is what the processes of a job have used when its command begins; in seconds, from its start to its end.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/workflow"))
TICKS = os.sysconf("SC_CLK_TCK")

RULES = """
rule all:
    input: expand("{{number}}.txt", number=range({jobs}))

rule ready:
    output: "{{number}}.txt"
    group: {group}
    shell: "{python} {script} --inside > {{output}}"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--together", type=int, default=1, help="jobs in a group")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(used_by_job(os.environ["SLURM_JOB_ID"]))
    else:
        measure(arguments.jobs, arguments.together)


def used_by_job(number: str) -> float:
    """CPU seconds of the processes of a SLURM job on this node, without this one."""
    used = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"SLURM_JOB_ID={number}".encode() not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        if folder.name != str(os.getpid()):
            used += sum(map(int, fields[11:15]))  # of itself and of its children that ended
    return used / TICKS


def measure(jobs: int, together: int) -> None:
    from slurm_cluster import CPUS, Cluster, install

    install()
    with tempfile.TemporaryDirectory(prefix="weight-atlas-jobs-") as name, Cluster() as cluster:
        folder = Path(name)
        group = repr("together" if together > 1 else None)
        rules = RULES.format(jobs=jobs, group=group, python=sys.executable, script=Path(__file__).resolve())
        (folder / "Snakefile").write_text(rules)
        command = [Path(sys.executable).with_name("snakemake"), "-s", "Snakefile", "--cores", str(CPUS)]
        command += ["--workflow-profile", str(ROOT / "profiles/slurm"), "--jobs", str(jobs), "--latency-wait", "5"]
        command += ["--group-components", f"together={together}", "--default-resources", "mem_mb=500", "runtime=60"]
        command += ["slurm_partition=main", "slurm_account=test"]
        begun = time.monotonic()
        done = subprocess.run(command, cwd=folder, env=cluster.environment, capture_output=True, text=True)
        seconds = time.monotonic() - begun
        if done.returncode:
            sys.exit(done.stderr[-4000:])
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        submitted = cluster.jobs(re.search(r"SLURM run ID: (\S+)", done.stderr)[1])
        states = [job["JobState"] for job in submitted]
        inside = [float((folder / f"{number}.txt").read_text()) for number in range(jobs)]
        print(f"{jobs} jobs, {len(submitted)} of them submitted: {states.count('COMPLETED')} completed")
        print(f"in all {seconds:.0f} s; {(own.ru_utime + own.ru_stime) / jobs:.2f} CPU s a job where Snakemake runs")
        lasted = [(moment(job["EndTime"]) - moment(job["StartTime"])).total_seconds() for job in submitted]
        print(f"a submitted job: {mean(lasted):.1f} s from start to end, median {median(lasted):.1f} s")
        print(f"CPU seconds of its processes when its command begins: {mean(inside):.2f}, median {median(inside):.2f}")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


if __name__ == "__main__":
    main()
