"""A corpus that is counted in parts: the same counts, kept by part, whatever is killed in between."""

import json
import os
import signal
import subprocess
import time

import pandas as pd
import psutil
import pytest
import yaml
from project import SNAKEMAKE, Project, digests

pytestmark = pytest.mark.slow

RUN = ("--configfile", "mine.yaml", "--resources", "gpu=1", "--cores", "2", "tokenizers")


def project_in(folder, part_megabytes):
    project = Project.copy(folder)
    corpus = {"source": "texts", "group_column": "lang", "part_megabytes": part_megabytes}
    config = {
        "models": {"demo": {"source": "bundled:demo"}},
        "tokenizers": {"alone": {"source": "src/weight_atlas/data/demo/model/tokenizer.json"}},
        "corpora": {"text": corpus},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    (folder / "texts").mkdir()
    words = (
        (folder / "CITATION.cff").read_text() if (folder / "CITATION.cff").exists() else "some words of a text, and "
    )
    for name, rows in (("a", 400), ("b", 500), ("large", 1500)):
        lines = (
            json.dumps({"text": f"{name} {row}: {words * 40}"[:1000], "lang": "en" if row % 3 else "de"})
            for row in range(rows)
        )
        (folder / f"texts/{name}.jsonl").write_text("".join(line + "\n" for line in lines))
    return project


def counts(project):
    return digests(project.folder / "results/token_counts")


@pytest.fixture(scope="module")
def in_parts(tmp_path_factory):
    project = project_in(tmp_path_factory.mktemp("parts") / "project", 1)
    project.snakemake(*RUN)
    return project


def test_parts_add_up_to_the_whole(in_parts, tmp_path):
    whole = project_in(tmp_path / "project", 256)
    whole.snakemake(*RUN)
    assert not (whole.folder / "results/token_counts_part").exists()
    assert counts(whole) == counts(in_parts)
    parts = list((in_parts.folder / "results/token_counts_part/alone/text").glob("*.sizes.parquet"))
    assert len(parts) >= 3 and sum(pd.read_parquet(part).documents.sum() for part in parts) == 2400
    assert not (in_parts.folder / "results/corpus").exists()  # nothing is copied


def test_a_file_that_changes_has_its_own_parts_counted_again(in_parts):
    with (in_parts.folder / "texts/b.jsonl").open("a") as file:
        file.write(json.dumps({"text": "more", "lang": "en"}) + "\n")
    done = in_parts.snakemake("--dry-run", *RUN)
    jobs = dict(line.split() for line in done.stdout.splitlines() if line.startswith(("token_counts", "total")))
    assert jobs["token_counts_part"] == jobs["token_counts"] == "1"


def test_counting_that_is_killed_goes_on_and_ends_with_the_same_bytes(in_parts, tmp_path):
    project = project_in(tmp_path / "project", 1)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for done in (0, 2):
        process = subprocess.Popen([SNAKEMAKE, *RUN], cwd=project.folder, env=project.environment, **quiet)
        while len(list((project.folder / "results").glob("token_counts_part/*/*/*"))) <= done:
            assert process.poll() is None
            time.sleep(0.05)
        jobs = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        psutil.wait_procs(jobs, timeout=300)
    project.snakemake(*RUN)
    for name in ("groups.csv", "npy", "parquet", "tokens.parquet", "json"):
        file = f"results/token_counts/alone/text.{name}"
        assert (project.folder / file).read_bytes() == (in_parts.folder / file).read_bytes()
