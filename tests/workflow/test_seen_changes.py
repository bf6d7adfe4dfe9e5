"""What a plan says that a change can be seen by, against what really becomes another: a run from nothing beside it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from project import Project, digests
from safetensors.torch import load_file, save_file

from weight_atlas.command.why import origin
from weight_atlas.errors import AtlasError

pytestmark = pytest.mark.slow

FEW = ("--configfile", "few.yaml")


def another_setting(folder: Path) -> None:
    with (folder / "few.yaml").open("a") as file:
        file.write("effective_rank: {phases: 4}\n")


def another_weight(folder: Path) -> None:
    path = folder / "model/model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "mlp.down_proj" in name)
    tensors[name] = tensors[name] * 1.5
    tensors[name][0, 0] = 0
    save_file(tensors, path, metadata={"format": "pt"})


def another_formula(folder: Path) -> None:
    path = folder / "src/weight_atlas/spectra/ranks.py"
    path.write_text(path.read_text().replace("np.exp(", "1.01 * np.exp("))


# What is changed, and the steps of which an output must be another then.
CHANGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "a setting": (another_setting, {"effective_rank", "run_configs", "atlas"}),
    "a weight": (another_weight, {"fetch_checkpoint", "singular_values", "effective_rank", "atlas"}),
    "a formula": (another_formula, {"effective_rank", "atlas"}),
}


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("few") / "project"
    project = Project.small(folder)
    shutil.copy2(Path(__file__).with_name("few.yaml"), folder)
    project.snakemake(*FEW)
    return project


def maker(project: Project, name: str) -> str:
    """The rule that wrote a file of the results, or the folder that it lies in."""
    path = project.folder / "results" / name
    for place in (path, *path.parents):
        try:
            return origin(place, project.folder)["rule"]
        except AtlasError:
            continue
    raise AssertionError(f"nothing wrote {name}")


@pytest.mark.parametrize("name", CHANGES)
def test_what_becomes_another_is_what_a_plan_runs(few, name, tmp_path):
    """And a run of that plan ends with what the run from nothing has, early ends included."""
    change, seen = CHANGES[name]
    fresh = Project(tmp_path / "fresh")
    shutil.copytree(few.folder, fresh.folder, ignore=shutil.ignore_patterns("results", ".snakemake", "logs"))
    change(fresh.folder)
    fresh.snakemake(*FEW)
    before, after = digests(few.folder / "results"), digests(fresh.folder / "results")
    others = {maker(few, file) for file in before if before[file] != after.get(file)}
    assert before.keys() == after.keys() and seen <= others
    again = Project(tmp_path / "again")
    shutil.copytree(few.folder, again.folder)
    change(again.folder)
    assert others <= again.would_run(*FEW), "stale"
    again.snakemake(*FEW)
    assert digests(again.folder / "results") == after
