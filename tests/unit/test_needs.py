"""Memory and time that steps ask for."""

import json

import pytest

from weight_atlas.workflow.needs import megabytes, minutes, stored_bytes


def test_small_models_need_the_least_and_large_ones_their_copies():
    assert megabytes("super_weights", 5_000_000, 1) == 16_000
    # 8 billion parameters of 2 bytes: thrice that, beside half of the least.
    assert megabytes("super_weights", 16_000_000_000, 1) == 3 * 16_000 + 8_000


def test_a_table_takes_no_more_memory_for_a_large_model():
    assert megabytes("effective_rank", 10**12, 1) == 2_000


@pytest.mark.parametrize("step", ["super_weights", "value_histogram", "effective_rank"])
def test_the_second_try_gets_twice_as_much(step):
    for quantity in (megabytes, minutes):
        assert quantity(step, 10**10, 2) == 2 * quantity(step, 10**10, 1)


def test_a_stored_model_is_as_large_as_its_manifest_says_else_as_its_files(tmp_path):
    folder, manifest = tmp_path / "model", tmp_path / "manifest.json"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"0" * 300)
    (folder / "config.json").write_text("{}")
    assert stored_bytes(str(manifest), str(folder)) == 302
    manifest.write_text(json.dumps({"files": [{"name": "a", "size": 5}, {"name": "b", "size": 7}]}))
    assert stored_bytes(str(manifest), str(folder)) == 12


def test_what_cannot_be_known_yet_counts_nothing(tmp_path):
    assert stored_bytes(None, "hf://org/name") == stored_bytes(None, None) == 0
    damaged = tmp_path / "manifest.json"
    damaged.write_text("{")
    assert stored_bytes(str(damaged), None) == 0
