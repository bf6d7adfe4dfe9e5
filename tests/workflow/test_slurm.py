"""The SLURM profile for real, on a one-node cluster that this test brings up itself."""

import os
import re
import subprocess

import pytest
from parsed_workflow import parsed_steps
from project import SMALL, Project, digests
from slurm_cluster import CPUS, Cluster, install

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="starting SLURM needs root"),
]


@pytest.fixture(scope="module")
def cluster():
    install()
    with Cluster() as environment:
        yield environment


def test_the_profile_runs_the_whole_workflow(cluster, small, tmp_path):
    project = Project.small(tmp_path / "project")
    project.environment |= {name: cluster[name] for name in ("SLURM_CONF", "PATH")}
    project.start_snakemake(
        *("--workflow-profile", "profiles/slurm", "--jobs", "8", "--latency-wait", "5", "--retries", "0"),
        *("--slurm-init-seconds-before-status-checks", "2"),
        *("--default-resources", "mem_mb=1000", "runtime=20", "slurm_partition=main", "slurm_account=test"),
        *("--set-resources", "super_weights:mem_mb=3000", "variant_perplexity:mem_mb=3000"),
        *SMALL,
        timeout=900,
    )
    assert digests(project.folder / "results") == digests(small.folder / "results")
    asked = [int(cpus) for cpus in re.findall(r"NumCPUs=(\d+)", jobs_of(cluster))]
    assert max(asked) == CPUS == declared_cpus(cluster)  # steps that ask for 4 threads have what the node offers
    requested = requested_gpus(cluster)
    assert requested["super_weights"] == requested["variant_perplexity"] == 1
    assert all(count == 0 for rule, count in requested.items() if rule not in gpu_rules()), requested
    assert "Nothing to be done" in project.snakemake("--workflow-profile", "profiles/slurm", *SMALL).stderr


def jobs_of(cluster):
    """What the controller remembers of finished jobs."""
    return subprocess.run(["scontrol", "show", "job"], env=cluster, capture_output=True, text=True, check=True).stdout


def declared_cpus(cluster):
    show = subprocess.run(["sinfo", "-h", "-o", "%c"], env=cluster, capture_output=True, text=True, check=True).stdout
    return int(show)


def requested_gpus(cluster):
    """GPUs that each rule's job asked for."""
    gpus = {}
    for job in jobs_of(cluster).split("\n\n"):
        if rule := re.search(r"Comment=(?:rule_)?(\w+?)(?:_wildcards\S*)?\s", job):
            gpus[rule[1]] = int(match[1]) if (match := re.search(r"TresPerJob=gres:gpu:(\d+)", job)) else 0
    return gpus


def gpu_rules():
    return {name for name, rule in parsed_steps().items() if "gpu" in rule.resources}
