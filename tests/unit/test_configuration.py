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
    ],
)
def test_one_clear_message(change, parts):
    with pytest.raises(AtlasError) as error:
        check({**GOOD, **change})
    for part in parts:
        assert part in str(error.value)


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
