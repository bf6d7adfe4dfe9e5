"""What a command writes to weight-atlas.yaml, and how it reads what is asked for."""

import pytest

from weight_atlas.command.project import FILE, Project
from weight_atlas.command.requested import Requested, requested
from weight_atlas.errors import AtlasError


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def reread(project):
    return Project(project.directory)


def test_a_new_model_gets_an_entry_and_a_second_one_joins_it(project):
    name = project.model("bundled:demo")
    project.ask(name, ["effective_rank"])
    project.write()
    again = reread(project)
    assert again.model("bundled:demo") == again.model("demo") == "demo"
    again.ask("demo", ["effective_rank", "heavy_tail"])
    again.ask(again.model("hf://org/name@v1"), ["heavy_tail"])
    again.write()
    assert reread(project).models == {
        "demo": {"source": "bundled:demo", "analyses": ["effective_rank", "heavy_tail"]},
        "name-v1": {"source": "hf://org/name", "revision": "v1", "analyses": ["heavy_tail"]},
    }


def test_what_was_written_by_hand_stays(project):
    text = """\
# my models
heavy_tail:
  bootstrap: 7  # quick
models:
  mine:   # the first
    source: "bundled:demo"
    analyses: null
"""
    (project.directory / FILE).write_text(text)
    changed = reread(project)
    assert changed.model("bundled:demo") == "mine"
    changed.ask("mine", ["effective_rank"])  # it asks for all
    changed.write()
    assert (project.directory / FILE).read_text() == text
    changed = reread(project)
    changed.ask(changed.model("org/other"), ["effective_rank"])
    changed.set_key("heavy_tail.bootstrap", 8)
    changed.write()
    written = (project.directory / FILE).read_text()
    for kept in ("# my models\n", "# quick", "# the first", '"bundled:demo"', "analyses: null\n", "bootstrap: 8"):
        assert kept in written
    assert "    source: hf://org/other\n    analyses: [effective_rank]\n" in written


def test_names_of_different_sources_differ(project):
    names = [project.model(text) for text in ("a/model", "b/model", "a/model@x", "a/model")]
    assert names == ["model", "b-model", "model-x", "model"]


def test_what_could_not_be_fetched_is_taken_back(project):
    project.model("org/wrong")
    project.write()
    assert (project.directory / FILE).exists()
    project.take_back()
    assert not (project.directory / FILE).exists()
    project.write()
    (project.directory / FILE).write_text("models: {}\n")  # somebody else, meanwhile
    project.take_back()
    assert (project.directory / FILE).read_text() == "models: {}\n"


def test_what_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "elsewhere").mkdir()
    assert requested("org/name", tmp_path) == Requested("hf://org/name")
    assert requested("hf://org/name@abc", tmp_path) == Requested("hf://org/name", "abc")
    assert requested("model", tmp_path) == Requested("model")
    # A path is one of where the command was given, the file's are relative to where it lies.
    assert requested("model", tmp_path / "elsewhere") == Requested(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nope", "no such model"),
        ("./nope/model.safetensors", "no such model"),
        ("bundled:dmeo", "no bundled model has this name"),
        ("s3://bucket/model", "no such model"),
        ("hf://org", "not the name of a model on the hub"),
        ("", "a model without a source"),
    ],
)
def test_what_can_be_no_model(tmp_path, text, what):
    with pytest.raises(AtlasError, match=what):
        requested(text, tmp_path)


def test_a_wrong_name_is_answered_with_the_models_there_are(project):
    project.model("bundled:demo")
    with pytest.raises(AtlasError, match="did you mean 'demo'"):
        project.model("dmeo")


@pytest.mark.parametrize("text", ["models: [", "- a\n", "models: {a: 3}\n", "a: 1\na: 2\n"])
def test_a_broken_file_is_one_message(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(AtlasError) as error:
        Project(tmp_path)
    assert str(tmp_path / FILE) in str(error.value.where)


def test_settings_are_checked_before_anything_runs(project):
    project.model("bundled:demo")
    project.set_key("heavy_tail.bootstrap", "many")
    with pytest.raises(AtlasError, match=r"heavy_tail\.bootstrap"):
        project.configured()
