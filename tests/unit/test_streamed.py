"""Streamed models: what is measured as shards pass by is, byte for byte, what steps measure on a local copy."""

import json

import pytest
from streamed_models import SOURCE, demo_files, fetched, hub_of, local, products, streamed_parts


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """What the steps write of a local folder with the same seven shards."""
    folder = tmp_path_factory.mktemp("local")
    made = local(folder / "made", demo_files(7))
    (folder / "products").mkdir()
    return products(folder / "products", made)


def test_the_products_of_a_streamed_model_are_those_of_a_local_copy(truth, tmp_path, monkeypatch):
    files = demo_files(7)
    whole = sum(len(body) for name, body in files.items() if name.endswith(".safetensors"))
    with hub_of(files, monkeypatch, tmp_path / "hub") as hub:
        made = fetched(tmp_path, SOURCE, stream=True)
        parts = streamed_parts(tmp_path / "parts", made, 3)
        beside = sum(len(files[name]) for name in files if not name.endswith(".safetensors"))
        assert hub.sent - beside <= 1.1 * whole
    (tmp_path / "products").mkdir()
    found = products(tmp_path / "products", made, parts)
    assert [name for name in truth if found[name] != truth[name]] == []
    assert found.keys() == truth.keys()
    assert not list((tmp_path / "parts").rglob("*.safetensors*")), "nothing of the weights is left"
    came = [each for path in (tmp_path / "parts").glob("*.json") for each in json.loads(path.read_text())["stretches"]]
    assert len(came) == 7 and all(each["verified"] for each in came)
