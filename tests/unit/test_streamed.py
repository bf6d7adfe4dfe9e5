"""Streamed models: what is measured as shards pass by is, byte for byte, what steps measure on a local copy."""

import json
import shutil
from contextlib import nullcontext
from itertools import pairwise

import pandas as pd
import pytest
from standin_hub import Fault
from steps import empty_figures
from streamed_models import SOURCE, demo_files, fetched, hub_of, local, products, streamed_parts, tiny_files

from weight_atlas.artifacts import read_table
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.live.load import load_model
from weight_atlas.settings.models import CheckpointSpec
from weight_atlas.streamed.merging import in_order
from weight_atlas.weights import streaming
from weight_atlas.weights.streaming import portions


@pytest.mark.parametrize(
    ("files", "figures"),
    [(tiny_files(7), empty_figures), pytest.param(demo_files(7), nullcontext, marks=pytest.mark.slow)],
    ids=["tiny", "demo"],
)
def test_the_products_of_a_streamed_model_are_those_of_a_local_copy(files, figures, tmp_path, monkeypatch):
    whole = weights(files)
    for name in ("local", "products"):
        (tmp_path / name).mkdir()
    with figures():
        truth = products(tmp_path / "local", local(tmp_path / "made", files))
    with hub_of(files, monkeypatch, tmp_path / "hub") as hub:
        made = fetched(tmp_path, SOURCE, stream=True)
        parts = streamed_parts(tmp_path / "parts", made, 3)
        beside = sum(len(files[name]) for name in files if not name.endswith(".safetensors"))
        assert hub.sent - beside <= 1.1 * whole
    with figures():
        found = products(tmp_path / "products", made, parts)
    assert [name for name in truth if found[name] != truth[name]] == []
    assert found.keys() == truth.keys()
    assert not list((tmp_path / "parts").rglob("*.safetensors*")), "nothing of the weights is left"
    came = [each for path in (tmp_path / "parts").glob("*.json") for each in json.loads(path.read_text())["stretches"]]
    assert len(came) == 7 and all(each["verified"] for each in came)


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """What one part measures of a tiny model whose shards come without a fault."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as monkeypatch, hub_of(tiny_files(5), monkeypatch, folder / "hub"):
        return put_together(streamed_parts(folder, fetched(folder, SOURCE, stream=True), 1))


def put_together(parts):
    return {name: in_order(paths) for name, paths in parts.items()}


def weights(files):
    return sum(len(body) for name, body in files.items() if name.endswith(".safetensors"))


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert len(table), name
        pd.testing.assert_frame_equal(found[name], table, check_exact=True, obj=name)


def by_position(found, expected, one, other):
    """The tables of models that store the same tensors in another order, in the order of the expected one."""
    assert one["id"].sort_values().tolist() == other["id"].sort_values().tolist()
    keys = {"spectra": "id", "structures": "id", "profiles": "id"}
    for name, key in keys.items():
        again = found[name].set_index(key).loc[expected[name][key]].reset_index()[expected[name].columns]
        pd.testing.assert_frame_equal(again, expected[name], check_exact=True, obj=name)


def test_faults_on_the_way_change_no_number_and_hardly_the_traffic(once, tmp_path, monkeypatch):
    files = tiny_files(5)
    names = sorted(name for name in files if name.endswith(".safetensors"))
    with hub_of(files, monkeypatch, tmp_path / "hub") as hub:
        made = fetched(tmp_path, SOURCE, stream=True)
        before = hub.sent
        hub.faults[names[0]] = [Fault(status=429, headers={"Retry-After": "3"}), Fault(cut=50_000)]
        hub.faults[names[1]] = [Fault(cut=20_000, reset=True), Fault(status=503), Fault(cut=0)]
        hub.faults[names[3]] = [Fault(status=500)]
        parts = streamed_parts(tmp_path / "parts", made, 2)
        assert hub.sent - before <= 1.1 * weights(files)
        assert 3 in hub.waits and not any(hub.faults.values())
    same(put_together(parts), once)


@pytest.mark.parametrize(("count", "spool_gb"), [(1, 1e-4), pytest.param(4, 1e-9, marks=pytest.mark.slow)])
def test_shards_above_the_spool_come_in_ranges(once, tmp_path, monkeypatch, count, spool_gb):
    files = tiny_files(2)
    with hub_of(files, monkeypatch, tmp_path / "hub") as hub:
        made = fetched(tmp_path, SOURCE, spool_gb, stream=True)
        listed = {file["name"]: file["verified"] for file in json.loads(made[0].read_text())["files"]}
        assert not any(verified for name, verified in listed.items() if name.endswith(".safetensors"))
        before = hub.sent
        parts = streamed_parts(tmp_path / "parts", made, count, spool_gb)
        traffic = (hub.sent - before) / weights(files)
        assert traffic <= (1.1 if count == 1 and spool_gb > 1e-5 else 1.6)
    same(put_together(parts), once)
    came = [each for path in (tmp_path / "parts").glob("*.json") for each in json.loads(path.read_text())["stretches"]]
    assert len(came) > 4 and not any(each["verified"] or each["stop"] - each["start"] > 260_000 for each in came)


def test_a_layer_whose_tensors_lie_all_over_the_shards(once, tmp_path, monkeypatch):
    files = tiny_files(5, scattered=True)
    with hub_of(files, monkeypatch, tmp_path / "hub") as hub:
        made = fetched(tmp_path, SOURCE, stream=True)
        before = hub.sent
        one = put_together(streamed_parts(tmp_path / "one", made, 1))
        assert hub.sent - before == weights(files), "in one part what waits is kept"
        three = put_together(streamed_parts(tmp_path / "three", made, 3))
    same(three, one)
    by_position(one, once, one["spectra"], once["spectra"])


def test_a_part_that_was_killed_goes_on_at_its_shard(once, tmp_path, monkeypatch):
    files = tiny_files(5, scattered=False)
    with hub_of(files, monkeypatch, tmp_path / "hub") as hub:
        made = fetched(tmp_path, SOURCE, stream=True)
        before = hub.sent
        third = sorted(name for name in files if name.endswith(".safetensors"))[2]
        hub.faults[third] = [Fault(cut=20_000), *[Fault(status=503)] * 20]
        with pytest.raises(AtlasError, match="the hub cannot be reached"):
            streamed_parts(tmp_path / "parts", made, 1)
        (spool,) = (tmp_path / "parts").glob("*.spool")
        assert len(list(spool.glob("measured-*/0*"))) == 2
        begun = next(spool.rglob("*.incomplete")).stat().st_size
        assert 0 < begun <= 20_000
        hub.faults[third] = []
        hub.requests.clear()
        parts = streamed_parts(tmp_path / "parts", made, 1)
        assert [each.get("range") for each in hub.headers_of(f"/org/model/{third}")] == [
            f"bytes={begun}-{len(files[third]) - 1}"
        ]
        assert hub.sent - before <= 1.1 * weights(files)
        assert not list((tmp_path / "parts").glob("*.spool"))
    same(put_together(parts), once)


def test_other_settings_do_not_take_what_was_measured_with_these(tmp_path, monkeypatch):
    files = tiny_files(3)
    with hub_of(files, monkeypatch, tmp_path / "hub") as hub:
        made = fetched(tmp_path, SOURCE, stream=True)
        last = max(name for name in files if name.endswith(".safetensors"))
        for steps in ([], ["sparsity"]):
            hub.faults[last] = [Fault(status=503)] * 20
            with pytest.raises(AtlasError, match="the hub cannot be reached"):
                streamed_parts(tmp_path, made, 1, steps=steps)
            (measured,) = (tmp_path / "0.spool").glob("measured-*")
            assert (measured / "00000/structures.parquet").is_file() == bool(steps)


def test_what_nobody_asked_for_says_so(tmp_path, monkeypatch):
    with hub_of(tiny_files(3), monkeypatch, tmp_path / "hub"):
        parts = streamed_parts(tmp_path, fetched(tmp_path, SOURCE, stream=True), 1, steps=["sparsity"])
    with pytest.raises(NotApplicable, match="did not ask for this as its weights passed by"):
        in_order(parts["spectra"])
    assert len(in_order(parts["structures"])) == len(in_order(parts["profiles"]))


def test_a_shard_that_changed_since_the_manifest(tmp_path, monkeypatch):
    files = tiny_files(3)
    with hub_of(files, monkeypatch, tmp_path / "hub") as hub:
        made = fetched(tmp_path, SOURCE, stream=True)
        first = min(name for name in files if name.endswith(".safetensors"))
        body = hub.repositories["org/model"].files[first]
        hub.repositories["org/model"].files[first] = body[:-1] + bytes([body[-1] ^ 1])
        with pytest.raises(AtlasError, match="not the file that the manifest describes") as caught:
            streamed_parts(tmp_path, made, 1)
        assert "--forcerun fetch_checkpoint" in caught.value.remedy
        hub.repositories["org/model"].files[first] = body
        hub.spoil[first] = body[:-1] + bytes([body[-1] ^ 1])
        with pytest.raises(AtlasError, match="arrived damaged, or was changed"):
            streamed_parts(tmp_path, made, 1)


def test_weights_that_are_gone_are_not_read_as_zeros(tmp_path, monkeypatch):
    with hub_of(tiny_files(3), monkeypatch, tmp_path / "hub"):
        manifest, inventory = fetched(tmp_path, SOURCE, stream=True)
    checkpoint = open_checkpoint(manifest)
    with pytest.raises(NotApplicable, match="the model is streamed"):
        checkpoint.read("lm_head.weight")
    with pytest.raises(NotApplicable, match="the model is streamed"):
        next(portions(read_table(inventory), checkpoint, None))
    with pytest.raises(NotApplicable, match="the model is streamed"):
        load_model(checkpoint, trust_remote_code=False, dtype="auto")


def test_only_hub_models_of_safetensors(tmp_path, monkeypatch):
    with pytest.raises(AtlasError, match="for models of a hub"):
        make_manifest(CheckpointSpec(source="bundled:demo", stream=True))
    files = {"pytorch_model.bin": b"x", "config.json": b"{}"}
    with hub_of(files, monkeypatch, tmp_path), pytest.raises(AtlasError, match="not of pytorch files"):
        make_manifest(CheckpointSpec(source=SOURCE, stream=True))


def test_headers_that_are_no_longer_there(tmp_path, monkeypatch):
    with hub_of(tiny_files(2), monkeypatch, tmp_path / "hub"):
        manifest, _ = fetched(tmp_path, SOURCE, stream=True)
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(AtlasError, match="no longer in the hub cache"):
        open_checkpoint(manifest)


def test_a_local_copy_is_read_once_from_its_first_byte_to_its_last(tmp_path, monkeypatch):
    """But for the tensors of no layer, which come first: two steps back, on a disk where going back is dear."""
    made = local(tmp_path, demo_files(4))
    read, blocks = [], streaming._blocks

    def recorded(path, offset, size):
        read.append((path.name, offset, size))
        return blocks(path, offset, size)

    monkeypatch.setattr(streaming, "_blocks", recorded)
    list(streaming.readings(portions(read_table(made[1]), open_checkpoint(made[0]), None)))
    entries = open_checkpoint(made[0]).entries.values()
    assert sorted(read) == sorted((entry.shard, entry.offset, entry.bytes) for entry in entries)
    assert sum(later < before for before, later in pairwise(read)) <= 2
