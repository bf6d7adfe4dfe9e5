"""Working folders that share dear artifacts: what is the same is made once, and what is not is made."""

import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from project import Project, digests

pytestmark = pytest.mark.slow
TARGETS = ("results/effective_rank/mine.csv", "results/token_counts/mine/text.parquet")
DEAR = ("singular_values_part/mine/1-of-2", "singular_values_part/mine/2-of-2", "token_counts/mine/text")


def run(project: Project, folder: Path, *more: str, targets: Iterable[str] = TARGETS) -> None:
    """Make targets in a folder of its own, with a copy of the model and the texts."""
    if not folder.exists():
        for part in ("model", "texts"):
            shutil.copytree(project.folder / part, folder / part)
        shutil.copy2(project.folder / "small.yaml", folder)
    cache = f"shared_cache={project.folder / 'cache'}"
    settings = ("--configfile", folder / "small.yaml", "--config", cache)
    project.snakemake("--directory", folder, *settings, *more, "--", *targets)


def taken(folder: Path) -> list[bool]:
    """Of each dear step, whether it was taken from the cache."""
    return ["taken from the shared cache" in (folder / f"logs/{name}.log").read_text() for name in DEAR]


def test_a_second_folder_takes_what_the_first_made_and_makes_what_differs(tmp_path):
    project = Project.small(tmp_path / "project")
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    run(project, one)
    run(project, two)
    assert taken(one) == [False] * 3 and taken(two) == [True] * 3
    assert digests(two / "results/singular_values") == digests(one / "results/singular_values")
    assert digests(two / "results/effective_rank") == digests(one / "results/effective_rank")
    module = project.folder / "src/weight_atlas/spectra/table.py"
    module.write_text(module.read_text() + "\n\nPLANTED = 1\n")
    run(project, three)
    assert taken(three) == [False, False, True]
    text = two / "texts/one.txt"
    text.write_text(text.read_text() + "one more\n")
    run(project, two, "--forcerun", "singular_values_part")
    assert taken(two) == [True, True, False]


def test_folders_that_run_at_once_end_with_the_same(tmp_path):
    project = Project.small(tmp_path / "project")
    folders, spectra = (
        [tmp_path / name for name in ("one", "two")],
        {"targets": ["results/singular_values/mine.parquet"]},
    )
    threads = [threading.Thread(target=run, args=(project, folder), kwargs=spectra) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, two = (digests(folder / "results/singular_values") for folder in folders)
    assert one == two and len(one) == 1
