"""The SLURM profile for real, on a cluster of two nodes that this test brings up itself."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from parsed_workflow import parsed_steps
from project import ROOT, SMALL, SNAKEMAKE, Project, digests
from slurm_cluster import CPUS, NODES, Cluster, install

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="starting SLURM needs root"),
]
PROFILE = ("--workflow-profile", ROOT / "profiles/slurm", "--latency-wait", "5")
# The cluster answers at once: waiting as on a busy one would be most of a test.
PROFILE += ("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2")
FOR_ALL = ("--default-resources", "mem_mb=1000", "runtime=20", "slurm_partition=main", "slurm_account=test")


@pytest.fixture(scope="module")
def cluster():
    install()
    with Cluster() as cluster:
        yield cluster


def test_the_profile_runs_the_whole_workflow(cluster, small, tmp_path):
    project = Project.small(tmp_path / "project")
    project.environment |= {name: cluster.environment[name] for name in ("SLURM_CONF", "PATH")}
    arguments = (*PROFILE, "--cores", CPUS, "--jobs", "8", "--retries", "0", *FOR_ALL)
    done = project.start_snakemake(*arguments, *SMALL, timeout=3000)
    assert digests(project.folder / "results") == digests(small.folder / "results")
    jobs = of_run(cluster, done.stderr)
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    assert {job["NodeList"] for job in jobs} == set(NODES)
    assert max(int(job["NumCPUs"]) for job in jobs) == CPUS  # steps that ask for 4 threads have what a node offers
    steps = parsed_steps()  # or a group, by its name, which the names of its rules follow
    asked = {job["rule"] if job["rule"] in steps else job["rule"].split("_")[0]: job["gpus"] for job in jobs}
    assert asked["super_weights"] == asked["variant_perplexity"] == 1
    assert {rule for rule, gpus in asked.items() if gpus} <= gpu_rules()
    assert {"distributions", "spectra", "inventory"} <= asked.keys()  # groups of small jobs
    assert not {"fetch_checkpoint", "corpus", "effective_rank", "weight_statistics"} & asked.keys()
    assert "Nothing to be done" in project.snakemake("--workflow-profile", "profiles/slurm", *SMALL).stderr


TROUBLE = """
rule all:
    input: "greedy", "slow", "wrong", expand("{place}.lost", place=range(4))
rule greedy:
    output: "greedy"
    resources: mem_mb=lambda wildcards, attempt: 100 * attempt
    shell: "test {resources.mem_mb} -ge 300 && echo {resources.mem_mb} > {output}"
rule slow:
    output: "slow"
    resources: runtime=lambda wildcards, attempt: attempt
    shell: "test {resources.runtime} -gt 1 || sleep 200; echo {resources.runtime} > {output}"
rule lost:
    output: "{place}.lost"
    shell: "echo $(hostname) >> {output}.tries; sleep 12; hostname > {output}"
rule wrong:
    output: "wrong"
    shell: "echo this is what went wrong >&2; exit 3"
"""


def test_failed_and_timed_out_jobs_are_tried_again_and_a_lost_node_is_survived(cluster, tmp_path):
    (tmp_path / "Snakefile").write_text(TROUBLE)
    command = [SNAKEMAKE, "-s", "Snakefile", *PROFILE, *FOR_ALL, "--default-resources", "mem_mb=100", "runtime=5"]
    output = tmp_path / "output"
    with output.open("w") as stream:
        run = subprocess.Popen(
            [*map(str, command), "slurm_partition=main", "slurm_account=test"],
            **{"cwd": tmp_path, "env": cluster.environment, "stdout": stream, "stderr": stream},
        )
        try:
            lose_one_that_works(cluster, tmp_path)
            run.wait(timeout=600)
        finally:
            run.kill()
    said = output.read_text()
    jobs = of_run(cluster, said)
    states = {rule: sorted(job["JobState"] for job in jobs if job["rule"] == rule) for rule in ("greedy", "slow")}
    assert run.returncode == 1, said  # of the rule that is wrong
    assert states == {"greedy": ["COMPLETED", "FAILED", "FAILED"], "slow": ["COMPLETED", "TIMEOUT"]}
    assert (tmp_path / "greedy").read_text() == "300\n" and (tmp_path / "slow").read_text() == "2\n"
    finished = [(tmp_path / f"{number}.lost").read_text().strip() for number in range(4)]
    tried = sum(len((tmp_path / f"{number}.lost.tries").read_text().split()) for number in range(4))
    assert set(finished) <= set(NODES) and tried > 4
    assert "this is what went wrong" in said  # its log is found and shown


def lose_one_that_works(cluster, folder: Path) -> None:
    """Lose a node while it runs one of the jobs that wait for it, and bring it back when that is noticed."""
    deadline = time.monotonic() + 120
    while not (working := {path.read_text().split()[-1] for path in folder.glob("*.tries") if path.read_text()}):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    node = working.pop()
    cluster.lose(node)
    while "down" not in cluster.run("sinfo", "-h", "-n", node, "-o", "%t"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    cluster.start(node)


def of_run(cluster, said: str) -> list[dict[str, str]]:
    """What SLURM says of each job of a run, with its rule or group, its CPUs and its GPUs."""
    jobs = cluster.jobs(re.search(r"SLURM run ID: (\S+)", said)[1])
    for job in jobs:
        job["rule"] = re.fullmatch(r"(?:rule_)?(\w+?)(?:_wildcards_.*)?", job["Comment"])[1]
        job["gpus"] = int(match[1]) if (match := re.search(r"gpu:(\d+)", job.get("TresPerJob", ""))) else 0
    return jobs


def gpu_rules() -> set[str]:
    return {name for name, rule in parsed_steps().items() if "gpu" in rule.resources}
