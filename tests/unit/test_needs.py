"""Memory and time that steps ask for."""

import json

import pandas as pd
import pytest
from standin_hub import Repository, ask_instead, standin_hub

from weight_atlas.artifacts import write_table
from weight_atlas.workflow import needs
from weight_atlas.workflow.needs import LONGEST, Size, megabytes, minutes, size_of

NOWHERE = {"source": "hf://org/name", "revision": None}


@pytest.fixture(autouse=True)
def nothing_known():
    needs._on_hub.cache_clear()


def test_a_step_that_runs_a_model_needs_its_copies_beside_what_a_small_one_needs():
    small = megabytes("super_weights", Size(5_000_000, 10**6), 1)
    # 8 billion parameters of 2 bytes, run in 4 and once more for what is edited.
    assert megabytes("super_weights", Size(16_000_000_000, 10**9), 1) - small == 3 * 16_000 - 15


def test_a_step_that_reads_tensors_needs_memory_for_the_largest_one_alone():
    """The embedding of a model of 8 billion parameters, 128,256 x 4,096: in float64, with its Gram matrix."""
    elements = 128_256 * 4_096
    least = (8 * elements + 8 * 4_096**2 + 2 * elements) / 1e6
    assert megabytes("singular_values_part", Size(16 * 10**9, elements), 1) > least
    assert megabytes("singular_values_part", Size(16 * 10**9, 1000), 1) == megabytes("singular_values_part", Size(), 1)


def test_a_table_takes_no_more_for_a_large_model():
    for quantity in (megabytes, minutes):
        assert quantity("effective_rank", Size(10**12, 10**10), 1) == quantity("effective_rank", Size(), 1)


def test_time_grows_with_the_model_up_to_a_day():
    times = [minutes("variant_perplexity", Size(stored), 1) for stored in (0, 10**9, 10**10, 10**13)]
    assert times == sorted(times) and len(set(times)) == 4 and times[-1] == LONGEST == 1440


@pytest.mark.parametrize("step", ["super_weights", "value_histogram", "effective_rank"])
def test_each_try_gets_as_much_again(step):
    for quantity in (megabytes, minutes):
        one, two, three = (quantity(step, Size(10**10, 10**8), attempt) for attempt in (1, 2, 3))
        assert (two, three) == (2 * one, 3 * one)


def test_the_size_is_the_manifests_and_before_it_that_of_the_files(tmp_path):
    folder, manifest = tmp_path / "model", tmp_path / "manifest.json"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"0" * 300)
    (folder / "config.json").write_text("{}")
    entry = {"source": str(folder), "revision": None}
    assert size_of([manifest], [], [entry], ask=False) == Size(302)
    manifest.write_text(json.dumps({"files": [{"name": "a", "size": 5}, {"name": "b", "size": 7}]}))
    assert size_of([manifest], [], [entry], ask=False) == Size(12)


def test_the_largest_tensor_is_the_inventorys_and_of_a_pair_the_larger_models(tmp_path):
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / "missing.parquet"]
    for path, sizes in zip(paths, ([7, 30], [90, 2]), strict=False):
        write_table(path, pd.DataFrame({"tensor": ["x", "y"], "parameters": sizes}))
    assert size_of([], paths, [], ask=False) == Size(0, 90)


def test_what_cannot_be_known_yet_counts_nothing(tmp_path):
    assert size_of([], [], [], ask=True) == size_of([None], [None], [NOWHERE], ask=False) == Size()
    for name in ("manifest.json", "inventory.parquet"):
        (tmp_path / name).write_text("{")
    assert size_of([tmp_path / "manifest.json"], [tmp_path / "inventory.parquet"], [NOWHERE], ask=False) == Size()


def test_the_hub_is_asked_once_and_sends_no_file(monkeypatch):
    shards = {f"model-0000{number}-of-00002.safetensors": b"0" * 500 for number in (1, 2)}
    more = {"model.safetensors.index.json": b"{}", "config.json": b"{}", "pytorch_model.bin": b"0" * 9000}
    with standin_hub({"org/name": Repository(shards | more)}) as hub:
        ask_instead(hub.endpoint, monkeypatch)
        assert size_of([], [], [NOWHERE], ask=True) == size_of([], [], [NOWHERE], ask=True) == Size(1004)
        assert len(hub.headers_of("/api/models/")) == 1 and not hub.headers_of("/resolve/")


def test_a_hub_that_does_not_answer_stops_no_plan(monkeypatch):
    monkeypatch.setattr("weight_atlas.checkpoint.listed_size.listed_bytes", lambda *_: (_ for _ in ()).throw(OSError()))
    assert size_of([], [], [NOWHERE], ask=True) == Size()
