"""Paths as users write them: what Snakemake would misread stays out of its sight, what is no path is said."""

from pathlib import Path

import pytest

from weight_atlas.checkpoint.local_files import local_state
from weight_atlas.checkpoint.source import parse_source
from weight_atlas.errors import AtlasError
from weight_atlas.paths import user_path
from weight_atlas.workflow.configuration import check_paths, configured, plain_folders
from weight_atlas.workflow.paths import check_place, for_snakemake


def checked(**sections):
    check_paths(configured({"models": {"m": {"source": "x"}}, **sections}, "configuration"))


@pytest.mark.parametrize("path", ["~nouser/x", "a\0b"])
@pytest.mark.parametrize(
    "place",
    [
        lambda path: {"models": {"m": {"source": path}}},
        lambda path: {"corpora": {"c": {"source": path}}},
        lambda path: {"corpora": {"c": {"source": ["a.txt", path]}}},
        lambda path: {"tasks": {"t": {"folder": path}}},
        lambda path: {"tasks": {"t": {"mirror": path}}},
    ],
)
def test_what_can_be_no_path_is_said_before_anything_runs(place, path):
    checked(**place("~/x"))
    with pytest.raises(AtlasError, match=r"no home folder is known for ~nouser|NUL") as error:
        checked(**place(path))
    assert "what to do" in str(error.value)


def test_the_home_folder_is_filled_in(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/models") == Path("/home/me/models")
    assert parse_source("~/models").folder == Path("/home/me/models")


def test_a_path_that_snakemake_would_misread_is_no_input_but_still_watched(tmp_path):
    assert for_snakemake(["a/b", "m{x}/b", "m<x>", "new\nline", "{", "é 'q\""]) == ["a/b", "é 'q\""]
    folder = tmp_path / "m{x}\n<results>"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    before = local_state(str(folder))
    (folder / "config.json").write_text("{ }")
    assert before != local_state(str(folder))


@pytest.mark.parametrize("folder", ["/a/{x}/b", "/a/<x>", "/a/new\nline"])
def test_a_folder_in_which_nothing_can_run_is_named(folder):
    check_place(Path("/a/b c"), "the project")
    with pytest.raises(AtlasError, match="the project lies below") as error:
        check_place(Path(folder), "the project")
    assert repr(folder) in str(error.value) and "move or rename" in str(error.value)


@pytest.mark.parametrize("where", ["results", "logs"])
@pytest.mark.parametrize("path", ["/data/{x}", "/data/<x>", "a\nb", "", " ", " a", "a "])
def test_outputs_have_no_wildcards_in_their_folder(where, path):
    checked(pathvars={where: "/data/x y"})
    with pytest.raises(AtlasError, match=f"pathvars.{where}"):
        checked(pathvars={where: path})


def test_the_folder_of_outputs_is_spelled_as_snakemake_compares_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    written = {"./out": "out", "out/logs/": "out/logs", "/a//b/./c": "/a/b/c", "~/out": "/home/me/out", "../a": "../a"}
    assert {path: plain_folders({"results": path})["results"] for path in written} == written


def test_machine_code_is_kept_where_there_is_a_place_and_done_without_elsewhere(monkeypatch):
    import numpy as np
    from numba.core import caching

    from weight_atlas.weights.kernels import compiled

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    def total(values):
        result = 0.0
        for value in values:
            result += value
        return result

    assert compiled(total)(np.arange(4.0)) == 6
