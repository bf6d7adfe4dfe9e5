from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.tokens import installation, python_docs
from weight_atlas.tokens.installation import PACKAGES, SourceFile, source_files, versions
from weight_atlas.tokens.prose import fingerprint

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"


def normalised(name: str) -> str:
    return name.lower().replace("_", "-")


def test_every_package_is_pinned_and_installed_as_pinned():
    lines = [line.split("==") for line in LOCK.read_text().splitlines() if "==" in line]
    pinned = {normalised(name): version for name, version in lines}
    installed = {normalised(name): version for name, version in versions().items() if name != "python"}
    assert {name: pinned[name] for name in installed} == installed


def test_no_package_comes_with_the_test_extra_alone():
    import re

    project = metadata.requires("weight-atlas")
    # The extra that the README's commands install.
    usual = [line for line in project if "extra ==" not in line or re.search(r"extra == .eval.", line)]
    wanted = {re.match(r"[\w.-]+", line)[0] for line in usual}
    reached: set[str] = set()
    while wanted:
        name = wanted.pop()
        if normalised(name) in reached:
            continue
        reached.add(normalised(name))
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        wanted |= {re.match(r"[\w.-]+", line)[0] for line in needs if "extra ==" not in line}
    assert {normalised(name) for name in PACKAGES} <= reached


@pytest.fixture(scope="module")
def held_out():
    return python_docs.python_docs("test")


@pytest.mark.slow
def test_the_held_out_split_is_the_same_again(held_out):
    pd.testing.assert_frame_equal(held_out, python_docs.python_docs("test"))


@pytest.mark.slow
def test_the_held_out_split_is_large_enough_and_sorted(held_out):
    assert held_out.text.str.len().sum() > 300_000
    assert held_out.document.is_monotonic_increasing
    assert held_out.document.is_unique
    assert set(held_out.group) <= {*PACKAGES, "python"}
    assert all(map(python_docs.is_held_out, held_out.document))


def test_one_file_in_forty_is_held_out():
    files = source_files()
    share = sum(map(python_docs.is_held_out, files)) / len(files)
    assert 0.02 < share < 0.03


def test_the_splits_share_neither_files_nor_paragraphs(monkeypatch):
    # The whole training split takes a minute; one package shows the same.
    some = {name: file for name, file in source_files().items() if file.package == "networkx"}
    monkeypatch.setattr(python_docs, "source_files", lambda: some)
    alone = python_docs.python_docs("test")
    # One more file in the training split, with the text of a file that is held out.
    copied = alone.document[0]
    copy = "networkx/copied.py"
    assert not python_docs.is_held_out(copy)
    monkeypatch.setattr(python_docs, "source_files", lambda: {**some, copy: some[copied]})
    test, train = python_docs.python_docs("test"), python_docs.python_docs("train")
    pd.testing.assert_frame_equal(test, alone)
    assert copy not in set(train.document)
    assert not set(test.document) & set(train.document)
    marks = [
        [fingerprint(text) for document in split.text for text in document.split("\n\n")] for split in (test, train)
    ]
    assert not set(marks[0]) & set(marks[1])
    assert len(set(marks[1])) == len(marks[1]) > len(marks[0])


def test_no_tests_copies_or_stray_files():
    names = source_files()
    assert not any("/tests/" in name or "_vendor/" in name or "__pycache__" in name for name in names)
    assert not any(name.startswith("python/_sysconfigdata") for name in names)
    assert not any(Path(name).is_absolute() or ".." in name for name in names)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(installation, "PACKAGES", ("numpy", "no-such-package"))
    with pytest.raises(AtlasError, match="no-such-package"):
        python_docs.python_docs("test")


def test_a_file_that_its_package_lacks_is_named(monkeypatch, tmp_path):
    gone = {"numpy/gone.py": SourceFile(tmp_path / "gone.py", "numpy")}
    monkeypatch.setattr(python_docs, "source_files", lambda: gone)
    monkeypatch.setattr(python_docs, "is_held_out", lambda name: True)
    with pytest.raises(AtlasError, match=r"gone\.py"):
        python_docs.python_docs("test")


def test_an_unknown_split_is_refused():
    with pytest.raises(AtlasError, match="split: test or split: train"):
        python_docs.python_docs("validation")
