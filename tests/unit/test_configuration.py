"""Wrong configurations get one clear message; defaults come from the schema."""

import json
from pathlib import Path

import pytest
import yaml

from weight_atlas.configuration import configured
from weight_atlas.errors import AtlasError

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "schemas/config.schema.json").read_text())
GOOD = {"models": {"demo": {"source": "bundled:demo"}}}


def check(config):
    return configured(config, SCHEMA, "config.yaml")


def test_defaults_are_filled_in():
    complete = check(GOOD)
    assert complete["models"]["demo"]["trust_remote_code"] is False
    assert complete["effective_rank"]["phases"] == 3
    assert "python-docs" in complete["corpora"]
    assert "effective_rank" not in GOOD


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/**/*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path):
    check(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"modles": {}}, ["unknown key 'modles'", "did you mean 'models'?"]),
        ({"models": {"m": {"source": "x", "revison": "main"}}}, ["models.m.revison", "did you mean 'revision'?"]),
        ({"effective_rank": {"phase": 2}}, ["effective_rank.phase", "did you mean 'phases'?"]),
        ({"effective_rank": {"phases": "three"}}, ["effective_rank.phases", "'three' is not of type 'integer'"]),
        ({"effective_rank": {"phases": 1}}, ["effective_rank.phases", "minimum"]),
        ({"models": {}}, ["models"]),
        ({"models": {"m": {}}}, ["'source' is missing", "models.m"]),
        ({"models": {"m": {"source": "x", "analyses": ["spectre"]}}}, ["models.m.analyses.0", "spectre"]),
        ({"models": {"a/b": {"source": "x"}}}, ["'a/b' cannot be a name", "letters, digits"]),
        ({"models": {"../up": {"source": "x"}}}, ["cannot be a name"]),
        ({"models": {"a..b": {"source": "x"}}}, ["cannot be a name"]),
        ({"models": {"a b": {"source": "x"}}}, ["cannot be a name"]),
        ({"models": {".hidden": {"source": "x"}}}, ["cannot be a name"]),
        ({"models": {"a\n": {"source": "x"}}}, ["cannot be a name"]),
        ({"corpora": {"c": {"source": 3}}}, ["corpora.c.source"]),
        # Files and folders of the results would be of one name, or of the wrong model.
        ({"models": {"x.json": {"source": "x"}}}, ["'x.json' cannot be a name", "which the names of results have"]),
        ({"models": {"x.iterations": {"source": "x"}}}, ["cannot be a name"]),
        ({"corpora": {"x.png": {"source": "x"}}}, ["cannot be a name"]),
        ({"ablations": {"x.parquet": {"zero": {}}}}, ["cannot be a name"]),
        # Snakemake takes what repeats 20 times for a wildcard that never ends.
        ({"models": {"m" + 20 * "-1": {"source": "x"}}}, ["cannot be a name", "20 times in a row"]),
        ({"models": {20 * "0": {"source": "x"}}}, ["cannot be a name"]),
        ({"pathvars": {"results": ""}}, ["pathvars.results"]),
        ({"pathvars": {"logs": ""}}, ["pathvars.logs"]),
        ({"models": {"m": {"source": ""}}}, ["models.m.source"]),
        ({"corpora": {"c": {"source": ""}}}, ["corpora.c.source"]),
        ({"corpora": {"c": {"source": [""]}}}, ["corpora.c.source"]),
        ({"tasks": {"t": {"folder": ""}}}, ["tasks.t.folder"]),
    ],
)
def test_one_clear_message(change, parts):
    with pytest.raises(AtlasError) as error:
        check({**GOOD, **change})
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["llama-3.1", "a_b__c_", "step.1000", "x.jsonl.gz", "0" * 19, "a.b-c_d", "json"])
def test_names_that_collide_with_nothing_are_taken(name):
    check({"models": {name: {"source": "x"}}})


def walk(schema, path=""):
    if "properties" in schema:
        assert schema.get("additionalProperties") is False, path
        for name, part in schema["properties"].items():
            yield f"{path}.{name}", part
            yield from walk(part, f"{path}.{name}")


def test_every_key_has_a_description_and_a_default():
    parts = [*walk(SCHEMA), *(item for name in ("model", "corpus") for item in walk(SCHEMA["$defs"][name], name))]
    for path, part in parts:
        assert part.get("description"), path
        if path not in (".models", "model.source", "corpus.source"):
            assert "default" in part, path
