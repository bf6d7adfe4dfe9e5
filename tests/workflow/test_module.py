"""The workflow as a module of another: its rules under names of their own, its results in a folder of their own."""

import fcntl

import pytest
from project import ROOT, Project

from weight_atlas.workflow.damage import Damage, damage

pytestmark = pytest.mark.slow


@pytest.fixture
def other(tmp_path):
    """Another workflow, which is the example of docs/module.md."""
    (block,) = (part for part in (ROOT / "docs/module.md").read_text().split("```") if part.startswith("python\n"))
    assert "path/to/weight-atlas/Snakefile" in block
    text = block.removeprefix("python\n").replace("path/to/weight-atlas", str(ROOT))
    (tmp_path / "Snakefile").write_text(text)
    (tmp_path / "config.yaml").write_text(
        "weight_atlas:\n  models:\n    demo:\n      source: bundled:demo\n      analyses: [architecture_summary]\n"
    )
    return Project(tmp_path)


def test_another_workflow_builds_on_a_product(other):
    assert {"atlas_architecture_summary", "atlas_atlas", "atlas_overview"} <= other.would_run("--", "atlas_all")
    other.snakemake("--config", "own_setting=1")  # which is no key of this workflow's configuration
    assert (other.folder / "sizes.txt").read_text().startswith("category,parameters")
    assert not (other.folder / "results").exists()
    assert (other.folder / "weights/architecture_summary/demo/parameters.csv").is_file()
    found = damage(other.folder / "weights", threads=1, output_of=lambda path: None)
    assert found == Damage(whole=8), "all outputs have their records"
    assert "Nothing to be done" in other.snakemake().stderr


def test_the_module_keeps_its_promises_where_the_other_workflow_hands_its_hooks_over(other):
    targets = ("--", "sizes.txt", "atlas_atlases")
    other.snakemake(*targets)
    results = other.folder / "weights"
    assert "steps" in (results / "atlas/steps.js").read_text()
    assert (results / ".weight-atlas/records/tensor_inventory/demo.parquet.json").is_file()
    assert "architecture_summary" in (results / "atlas/demo.md").read_text()
    with (results / ".weight-atlas/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run writes to these results" in other.snakemake("--forceall", check=False).stderr
    said = other.snakemake("--forcerun", "atlas_tensor_inventory", *targets).stderr
    assert "steps were renewed" in said and "not present" not in said  # rules, by other names
    assert (other.folder / "sizes.txt").read_text().startswith("category,parameters")
    (results / "tensor_inventory/demo.parquet").write_bytes(b"damaged")
    failed = other.snakemake("--forcerun", "atlas_architecture_summary", *targets, check=False)
    assert "not what its step wrote" in failed.stderr and "Steps failed of 1 of 1 models" in failed.stderr
    assert "Incomplete, since steps failed: weights/overview/models.md" in failed.stderr
