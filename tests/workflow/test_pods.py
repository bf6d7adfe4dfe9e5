"""Results in an S3 bucket, made here or by pods: Snakemake's own plugins, against servers on loopback."""

import logging
import os
import subprocess
import sys

import pytest
from argument_lists import argument_lists_with, files_with
from kubernetes_standin import Cluster
from project import Project, digests

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto.server")
pytestmark = pytest.mark.slow

TOKEN = "hf_plantedplantedplantedplanted"
FEW = ("--configfile", "few.yaml", "--", "architecture_summaries", "effective_ranks")


class Storage:
    """A bucket of an S3 server; `prefix` and `environment` tell Snakemake where it is."""

    def __init__(self, bucket):
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # which tells of every request
        self.prefix = ("--default-storage-prefix", f"s3://{bucket}/of/mine")
        self._server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        url = "http://{}:{}".format(*self._server.get_host_and_port())
        user = {"access_key": "me", "secret_key": "none"}
        self.environment = {
            f"SNAKEMAKE_STORAGE_S3_{name.upper()}": value for name, value in {"endpoint_url": url, **user}.items()
        }
        keys = {"aws_access_key_id": user["access_key"], "aws_secret_access_key": user["secret_key"]}
        self._bucket = boto3.resource("s3", endpoint_url=url, region_name="us-east-1", **keys).Bucket(bucket)
        self._bucket.create()

    def bring(self, folder):
        """Bring all that lies in the bucket into a folder; return it."""
        for each in self._bucket.objects.all():
            path = folder / each.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(each.get()["Body"].read())
        return folder / "of/mine"

    def stop(self):
        self._server.stop()


@pytest.fixture
def storage(request):
    storage = Storage(request.node.name.replace("_", "-")[:60])
    yield storage
    storage.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """What the same selection leaves in a folder."""
    project = few(tmp_path_factory.mktemp("local"))
    project.snakemake(*FEW)
    return digests(project.folder / "results")


def few(folder, source="model"):
    project = Project.small(folder / "project")
    analyses = "[architecture_summary, effective_rank]"
    text = f"models:\n  mine:\n    source: {source}\n    analyses: {analyses}\n"
    (project.folder / "few.yaml").write_text(text)
    return project


def test_results_in_a_bucket_are_those_of_a_folder_and_run_again_where_they_are_stale(storage, local, tmp_path):
    project = few(tmp_path)
    project.environment |= storage.environment
    to_bucket = ("--default-storage-provider", "s3", *storage.prefix)
    project.snakemake(*to_bucket, *FEW)
    stored = storage.bring(tmp_path / "stored")
    assert digests(stored / "results") == local
    assert (stored / "logs/effective_rank/mine.log").read_text()
    assert (stored / "logs/benchmarks/singular_values_part/mine/1-of-2.tsv").read_text()
    assert "Nothing to be done" in project.snakemake(*to_bucket, *FEW).stderr
    with (project.folder / "few.yaml").open("a") as configuration:
        configuration.write("effective_rank: {phases: 2}\n")
    assert project.would_run(*to_bucket, *FEW) == {"effective_rank", "effective_ranks"}


def test_pods_bring_sources_and_inputs_from_the_bucket_and_results_to_it(storage, local, tmp_path):
    project = few(tmp_path, "bundled:demo")
    # Pods install the storage plugin by themselves: the image has it here.
    (tmp_path / "bin").mkdir()
    for name, command in {"python": f'exec {sys.executable} "$@"', "pip": ""}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    image = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "PYTHONPATH": str(project.folder / "src")}
    image |= {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}  # decide last bits
    for command in ("init", "--quiet"), ("add", "."):  # what git has is what pods get
        subprocess.run(["git", *command], cwd=project.folder, check=True)
    with Cluster(tmp_path / "cluster", image) as cluster:
        project.environment |= {**storage.environment, "KUBECONFIG": str(cluster.configuration), "HF_TOKEN": TOKEN}
        options = ("--workflow-profile", "profiles/kubernetes", "--seconds-between-status-checks", "1")
        options += ("--envvars", "HF_TOKEN", "--jobs", "2")
        with argument_lists_with(TOKEN, tmp_path) as seen:
            done = project.start_snakemake(*options, *storage.prefix, *FEW)
        stored = storage.bring(tmp_path / "stored")
        ran = [pod.job["spec"]["template"]["spec"]["containers"][0] for pod in cluster.pods.values()]
    same = {name for name, digest in digests(stored / "results").items() if local[name] == digest}
    assert same >= {name for name in local if not name.startswith("checkpoints/")}
    assert len(ran) > 5 and all(container["resources"]["requests"]["memory"] for container in ran)
    # Each gets the token, as a secret, and no other place shows it.
    assert all("HF_TOKEN" in {each["name"] for each in container["env"]} for container in ran)
    assert TOKEN not in str([pod.job for pod in cluster.pods.values()]) + done.stdout + done.stderr
    assert not seen.shown and not files_with(TOKEN, tmp_path)
