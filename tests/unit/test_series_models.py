"""Series of checkpoints: which models they are, in which order, and what is wrong with an entry."""

import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.natural_order import natural, numbers_of, short_names
from weight_atlas.workflow.configuration import configured
from weight_atlas.workflow.series import Runs, gives_models

ON_THE_HUB = {"source": "hf://a/b", "revisions": ["main", "step2000-tokens4B", "step1000-tokens2B"]}


def runs(**config):
    complete = configured(config, "c.yaml")
    return complete, Runs(complete)


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["a-1", "a-10", "a-9"], [1, 10, 9]),
        (["v2-step100-tokens2B", "v2-step200-tokens4B"], [100, 200]),
        (["base", "ft-10", "ft-20"], [None, 10, 20]),
        (["one-1", "other-2"], [None, None]),  # two runs, or two models
        (["3f2a1", "7b9c2"], [3, 7]),
        (["a3f2", "b7c2"], [None, None]),  # hashes
        (["a-1", "a-01"], [None, None]),
        (["a-1"], [None]),
        ([], []),
    ],
)
def test_the_number_that_tells_names_apart(names, numbers):
    assert numbers_of(names) == numbers


def test_steps_are_also_written_in_short():
    names = ["step-10", "step-1e3", "step-2k", "step-900", "step-9"]
    assert sorted(names, key=natural) == ["step-9", "step-10", "step-900", "step-1e3", "step-2k"]
    assert numbers_of(names) == [10, 1000, 2000, 900, 9]
    assert numbers_of(["a1e5", "b1e6"]) == [None, None]  # hashes
    assert sorted(["run10kb", "run9kb", "a2", "a10"], key=natural) == ["a2", "a10", "run9kb", "run10kb"]


def test_names_are_shown_without_what_all_begin_with():
    assert short_names(["run-step-10", "run-step-20"]) == ["10", "20"]
    assert short_names(["run-a", "run-a-b"]) == ["a", "a-b"]
    assert short_names(["x", "y"]) == ["x", "y"] and short_names(["run-1"]) == ["run-1"]


def test_a_list_of_models_goes_by_their_steps_where_all_have_one():
    models = {name: {"source": "x"} for name in ("ck-9", "ck-10", "ck-1", "base")}
    _, found = runs(models=models, series={"run": ["ck-9", "ck-10", "ck-1"], "tuned": {"models": ["base", "ck-9"]}})
    assert found.models("run") == ["ck-1", "ck-9", "ck-10"] and found.steps("run") == [1, 9, 10]
    assert found.models("tuned") == ["base", "ck-9"] and found.steps("tuned") == []
    assert found.before("run", "ck-10") == {"previous": "ck-9", "first": "ck-1"}
    assert found.later("run") == ["ck-9", "ck-10"]


def test_revisions_of_the_hub_become_models():
    config, found = runs(series={"olmo": {**ON_THE_HUB, "analyses": ["heavy_tail"], "trust_remote_code": True}})
    assert found.models("olmo") == ["olmo-step1000-tokens2B", "olmo-step2000-tokens4B", "olmo-main"]
    model = config["models"]["olmo-main"]
    assert (model["source"], model["revision"], model["analyses"]) == ("hf://a/b", "main", ["heavy_tail"])
    assert model["trust_remote_code"] is True and found.steps("olmo") == []


def test_a_pattern_is_looked_at_anew_in_every_run(tmp_path):
    """Folders without weights, such as logs, are no checkpoints, nor are those that are not written yet."""
    for name in ("checkpoint-5", "checkpoint-100", "logs", "checkpoint-200"):
        (tmp_path / name).mkdir()
    for name in ("checkpoint-5", "checkpoint-100"):
        (tmp_path / name / "model.safetensors").touch()
    config, found = runs(series={"mine": {"source": f"{tmp_path}/*"}})
    assert found.models("mine") == ["mine-checkpoint-5", "mine-checkpoint-100"] and found.steps("mine") == [5, 100]
    assert config["models"]["mine-checkpoint-5"]["source"] == (tmp_path / "checkpoint-5").as_posix()
    (tmp_path / "checkpoint-200/pytorch_model.bin").touch()
    assert runs(series={"mine": {"source": f"{tmp_path}/*"}})[1].steps("mine") == [5, 100, 200]


def test_checkpoint_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("a1/state.pt", "a2/state.pt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert runs(series={"s": {"source": f"{tmp_path}/*/state.pt"}})[1].models("s") == ["s-a1", "s-a2"]


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        (["a", "x"], ["unknown model 'x'", "c.yaml: series.run.models"]),
        ({}, ["series.run", "either models or a source"]),
        ({"models": ["a"], "dtype": "float32"}, ["takes dtype from its models", "entries in `models`"]),
        ({"source": "hf://a/b"}, ["needs the revisions", "revisions: [step1000"]),
        ({"source": "folder", "revisions": ["x"]}, ["has revisions of no hub model"]),
        ({"source": "nowhere/*"}, ["no checkpoint there", "nowhere/*"]),
        ({"source": "hf://a/b", "revisions": ["x/1", "x-1"]}, ["name of another model: 'run-x-1'", "rename"]),
        ({"source": "hf://a/b", "revisions": ["..."]}, ["cannot be a name"]),
        (["a", "a"], ["should hold each item once"]),
        ([], ["series.run", "at least 1"]),
        ({"modles": ["a"]}, ["unknown key 'modles'", "did you mean 'models'?"]),
    ],
)
def test_what_is_wrong_with_a_series_is_one_message(entry, parts):
    with pytest.raises(AtlasError) as error:
        configured({"models": {"a": {"source": "x"}}, "series": {"run": entry}}, "c.yaml")
    for part in parts:
        assert part in str(error.value)


def test_neither_models_nor_series_is_one_message():
    with pytest.raises(AtlasError, match="no models to analyse"):
        configured({"series": {}}, "c.yaml")


def test_a_series_without_a_source_is_of_the_models_of_the_default_configuration():
    assert not gives_models({}) and not gives_models({"series": {"run": ["demo"]}}) and not gives_models({"series": 3})
    assert gives_models({"models": {}}) and gives_models({"series": {"run": {"source": "x/*"}}})
