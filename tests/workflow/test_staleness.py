"""After any single change exactly the steps that can see it run again."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from project import SMALL

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def downstream(small) -> Callable[[set[str]], set[str]]:
    """Rules that directly or indirectly read what some rules write, those rules included."""
    graph = small.snakemake("--rulegraph", "--forceall", *SMALL).stdout
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
    edges = [(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", graph)]
    assert ("effective_rank", "atlas") in edges

    def downstream(rules: set[str]) -> set[str]:
        seen = set(rules)
        while more := {b for a, b in edges if a in seen} - seen:
            seen |= more
        return seen

    return downstream


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
    "nothing": (None, None, set()),
    "a parameter": ("small.yaml", configure("effective_rank", phases=4), {"effective_rank", "run_configs"}),
    "a parameter of the model": (
        "small.yaml",
        configure("models", "mine", dtype="float32"),
        {"super_weights", "variant_perplexity", "run_config"},
    ),
    "the revision": ("small.yaml", configure("models", "mine", revision="x"), {"fetch_checkpoint"}),
    "a script": ("scripts/weight_cdf.py", append("scripts/weight_cdf.py", NEW_CODE), {"weight_cdf"}),
    "a script's comment": ("scripts/weight_cdf.py", append("scripts/weight_cdf.py", "# why\n"), set()),
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
        {"atlas", "atlas_page"},
    ),
    "a text": ("texts/one.txt", append("texts/one.txt", "\nOne more sentence.\n"), {"corpus"}),
    "one more text": ("texts/two.txt", append("texts/two.txt", "Another text.\n"), {"corpus"}),
    "the weights": ("model/model.safetensors", flip_one_bit, {"fetch_checkpoint"}),
    "what nothing reads": ("texts/notes.md", append("texts/notes.md", "x"), set()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_exactly_what_can_see_a_change_runs(small, downstream, name, tmp_path):
    file, change, first = CHANGES[name]
    with kept(small.folder, file, tmp_path / "copy"):
        if change:
            change(small.folder)
        assert small.would_run(*SMALL) == downstream(first)
    assert small.would_run(*SMALL) == set()


@contextmanager
def kept(folder: Path, file: str | None, copy: Path) -> Iterator[None]:
    """Put a file back as it was, time stamps included, or away if it was not there."""
    if file is None:
        yield
        return
    existed = (folder / file).exists()
    if existed:
        shutil.copy2(folder / file, copy)
    try:
        yield
    finally:
        (folder / file).unlink()
        if existed:
            shutil.copy2(copy, folder / file)
