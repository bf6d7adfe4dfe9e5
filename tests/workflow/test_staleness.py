"""After any single change exactly the steps that can see it run again: examples whose steps are named by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from planned import Plans
from project import SMALL
from test_staleness_matrix import finished_plans, kept

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plans(tmp_path_factory) -> Plans:
    return finished_plans(tmp_path_factory.mktemp("staleness") / "project", "small.yaml")


def append(path: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / path).open("a") as file:
            file.write(text)

    return change


def configure(section: str, name: str | None = None, **values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = yaml.safe_load((folder / "small.yaml").read_text())
        target = config.setdefault(section, {})
        (target[name] if name else target).update(values)
        (folder / "small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    return change


def flip_one_bit(folder: Path) -> None:
    path = folder / "model/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


NEW_CODE = "\n\nX = 1\n"
CODE = "src/weight_atlas"
# What changes, how, in which file, and the first steps that can see it; what stands downstream of them runs as well.
CHANGES = {
    "a parameter": ("small.yaml", configure("effective_rank", phases=4), {"effective_rank", "run_configs"}),
    "a parameter of the model": (
        "small.yaml",
        configure("models", "mine", dtype="float32"),
        {"super_weights", "variant_perplexity"},
    ),
    "the revision": ("small.yaml", configure("models", "mine", revision="x"), {"fetch_checkpoint"}),
    "a script": ("scripts/token_counts.py", append("scripts/token_counts.py", NEW_CODE), {"token_counts"}),
    "a script's comment": ("scripts/token_counts.py", append("scripts/token_counts.py", "# why\n"), set()),
    "a module of one step": (
        f"{CODE}/spectra/trends.py",
        append(f"{CODE}/spectra/trends.py", NEW_CODE),
        {"effective_rank"},
    ),
    "a module deep below": (
        f"{CODE}/tokens/tallies.py",
        append(f"{CODE}/tokens/tallies.py", NEW_CODE),
        {"token_counts"},
    ),
    "a module of all steps": (
        f"{CODE}/artifacts.py",
        append(f"{CODE}/artifacts.py", NEW_CODE),
        {"fetch_checkpoint", "corpus", "atlas_assets"},
    ),
    "a module's comment": (f"{CODE}/artifacts.py", append(f"{CODE}/artifacts.py", "# why\n"), set()),
    "a family table": (
        f"{CODE}/families/bloom.yaml",
        append(f"{CODE}/families/bloom.yaml", "# tables are data: this counts\n"),
        {"tensor_inventory"},
    ),
    "a caption": (
        "report/effective_rank.rst",
        append("report/effective_rank.rst", "\nMore.\n"),
        {"atlas"},
    ),
    "a text": ("texts/one.txt", append("texts/one.txt", "\nOne more sentence.\n"), {"corpus"}),
    "one more text": ("texts/two.txt", append("texts/two.txt", "Another text.\n"), {"corpus"}),
    "the weights": ("model/model.safetensors", flip_one_bit, {"fetch_checkpoint"}),
    "what nothing reads": ("texts/notes.md", append("texts/notes.md", "x"), set()),
}


def rules(jobs: set[tuple[str, str]]) -> set[str]:
    return {rule for rule, _ in jobs}


def downstream(plans: Plans, first: set[str]) -> set[str]:
    """Rules that directly or indirectly read what some rules write, those rules included."""
    assert ("atlas", "mine") in plans.below["effective_rank", "mine"]
    assert first <= rules(plans.jobs.keys())
    return rules(plans.downstream({job for job in plans.jobs if job[0] in first}))


@pytest.mark.parametrize("name", CHANGES)
def test_exactly_what_can_see_a_change_would_run(plans, name):
    file, change, first = CHANGES[name]
    with kept(plans.folder / file):
        change(plans.folder)
        assert rules(plans.now()[0]) == downstream(plans, first)


def test_a_change_that_was_taken_back_leaves_nothing_to_do(plans):
    assert plans.now()[0] == set()


@pytest.mark.parametrize("name", ["a parameter", "a module of one step"])
def test_a_real_run_sees_a_change_as_the_plans_do(small, plans, name):
    """Snakemake's own dry run, after a run whose jobs all took place."""
    file, change, first = CHANGES[name]
    with kept(small.folder / file):
        change(small.folder)
        assert small.would_run(*SMALL) == downstream(plans, first) | {"all"}
    assert small.would_run(*SMALL) == set()
