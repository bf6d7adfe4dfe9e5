"""A real run in which a step ends with the bytes that it had: nothing below it runs; damage is found and repaired."""

import shutil
import subprocess

import pytest
from project import SMALL, SNAKEMAKE, Project, digests

from weight_atlas.command.why import origin
from weight_atlas.digest_records import LOST

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(small, tmp_path) -> Project:
    shutil.copytree(small.folder, tmp_path / "copy")
    return Project(tmp_path / "copy")


def test_a_touched_checkpoint_runs_one_step(copy, small):
    (copy.folder / "model/model.safetensors").touch()
    due = copy.would_run(*SMALL)
    assert {"fetch_checkpoint", "tensor_inventory", "super_weights", "atlas"} <= due
    done = copy.snakemake("--resources", "gpu=1", *SMALL)
    logs = {path: path.read_text() for path in (copy.folder / "logs").rglob("*.log")}
    again = {path.parent.name for path, text in logs.items() if "renewed: " not in text} & due
    assert again == {"fetch_checkpoint", "atlas"}  # whose captions lie elsewhere in a copy
    renewed = sum("renewed: " in text for text in logs.values())
    assert f"{renewed} steps were renewed" in done.stderr and renewed > 10
    assert digests(copy.folder / "results") == digests(small.folder / "results")
    assert "Nothing to be done" in copy.snakemake(*SMALL).stderr
    found = origin(copy.folder / "results/effective_rank/mine.csv", copy.folder)
    assert found["renewed"] and found["content"] == "as its step wrote it" and "torch" in found["versions"]


def test_a_flipped_bit_is_found_named_and_repaired(copy, small):
    damaged = copy.folder / "results/singular_values/mine.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (copy.folder / "results/effective_rank/mine.csv").unlink()
    done = copy.snakemake(*SMALL, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "error: not what its step wrote: damaged" in said
    assert "to have these files made again: rm results/singular_values/mine.parquet, then" in said
    assert "rm -r results/singular_values/mine.parquet, then run the same command" in said
    assert said.count("error: not what its step wrote") == 1 and "Traceback" not in said and "AtlasError" not in said
    damaged.unlink()
    copy.snakemake("--resources", "gpu=1", *SMALL)
    assert digests(copy.folder / "results") == digests(small.folder / "results")


def checked(project: Project, *options: str) -> tuple[int, str]:
    """`weight-atlas check`, in a process, which locks the results as long as it lives."""
    command = [SNAKEMAKE.with_name("weight-atlas"), "check", *options]
    done = subprocess.run(command, cwd=project.folder, env=project.environment, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_lost_records_are_said_and_rebuilt(copy, small):
    record = copy.folder / "results/.weight-atlas/records/singular_values/mine.parquet.json"
    record.unlink()
    (copy.folder / "results/effective_rank/mine.csv").unlink()
    done = copy.snakemake(*SMALL, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "recorded nowhere any more; to have these" in said
    assert said.count(f"error: {LOST}") == 1 and "Traceback" not in said
    shutil.rmtree(copy.folder / "results/.weight-atlas")
    done = copy.snakemake(*SMALL, "--", "results/effective_rank/mine.csv")
    assert "files of earlier runs have no record of their bytes, since results/.weight-atlas is gone" in done.stderr
    code, said = checked(copy)
    assert code == 1 and f"damaged: results/singular_values/mine.parquet ({LOST})\n" in said
    assert checked(copy, "--rebuild")[0] == 0
    copy.snakemake("--resources", "gpu=1", *SMALL)
    assert digests(copy.folder / "results") == digests(small.folder / "results")
    assert checked(copy)[0] == 0


def test_results_of_another_directory_are_refused(copy, tmp_path):
    """What is stale in them is not known here; other settings would pass for nothing to be done."""
    results, other = tmp_path / "shared", tmp_path / "other"
    shutil.copytree(copy.folder, other, ignore=shutil.ignore_patterns("results", ".snakemake"))
    config = (copy.folder / "small.yaml").read_text()
    for folder, more in ((copy.folder, ""), (other, "effective_rank: {phases: 4}\n")):
        (folder / "small.yaml").write_text(f"{config}\npathvars: {{results: {results}}}\n{more}")
    target = (*SMALL, "--", "checkpoints")
    copy.snakemake(*target)
    done = Project(other).snakemake(*target, check=False)
    said = f"these results were made in another directory, {copy.folder}"
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
    moved = copy.folder.rename(tmp_path / "moved")
    assert "Nothing to be done" in Project(moved).snakemake(*target).stderr
