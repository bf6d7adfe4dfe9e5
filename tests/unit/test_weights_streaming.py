"""Histograms of a whole checkpoint: order, threads, memory, fused tensors, and the table on disk."""

import subprocess
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import load_piece
from weight_atlas.weights import streaming
from weight_atlas.weights.histogram_table import histogram_parts, write_parts
from weight_atlas.weights.part_file import read_part_file, read_part_rows
from weight_atlas.weights.profile_table import by_head, cells, profile_file
from weight_atlas.weights.streaming import Portion, Reading, portions, readings, warned
from weight_atlas.weights.value_histogram import value_histogram

GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "vocab_size": 50,
    "n_positions": 16,
}


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.02).to(dtype)


@pytest.fixture
def gpt2(tmp_path):
    """A checkpoint with fused (c_attn), transposed (Conv1D) and plain tensors."""
    shapes = {"wte.weight": (50, 32), "wpe.weight": (16, 32), "ln_f.weight": (32,), "ln_f.bias": (32,)}
    for layer in range(2):
        shapes |= {
            f"h.{layer}.ln_1.weight": (32,),
            f"h.{layer}.ln_1.bias": (32,),
            f"h.{layer}.attn.c_attn.weight": (32, 96),
            f"h.{layer}.attn.c_attn.bias": (96,),
            f"h.{layer}.attn.c_proj.weight": (32, 32),
            f"h.{layer}.attn.c_proj.bias": (32,),
            f"h.{layer}.ln_2.weight": (32,),
            f"h.{layer}.ln_2.bias": (32,),
            f"h.{layer}.mlp.c_fc.weight": (32, 128),
            f"h.{layer}.mlp.c_fc.bias": (128,),
            f"h.{layer}.mlp.c_proj.weight": (128, 32),
            f"h.{layer}.mlp.c_proj.bias": (32,),
        }
    tensors = {name: random(*shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
    tensors["h.1.mlp.c_fc.weight"][3, 100] = 7.0
    tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    folder = tmp_path / "gpt2"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return Checkpoint.from_folder(folder), tensors


@pytest.fixture
def read(gpt2, monkeypatch):
    """The checkpoint, its inventory, and what was read through `read`."""
    checkpoint, _ = gpt2
    checkpoint.config = GPT2
    names, plain = [], checkpoint.read

    def recorded(name, rows=None):
        if rows != slice(0, 0):
            names.append((name, str(rows)))
        return plain(name, rows)

    monkeypatch.setattr(checkpoint, "read", recorded)
    return checkpoint, inventory(checkpoint), names


def test_every_tensor_once_in_the_order_of_the_inventory(gpt2, read):
    (checkpoint, tensors, names), stored = read, gpt2[1]
    names.clear()
    found = list(readings(portions(tensors, checkpoint, load_piece), threads=3))
    own = tensors[tensors["tied_to"] == ""]
    assert [reading.id for reading in found] == own["id"].tolist()
    assert len(own) < len(tensors), "the tied head is not read twice"
    for row, (_, histogram, _) in zip(own.itertuples(index=False), found, strict=True):
        assert histogram.row().keys() == value_histogram(load_piece(checkpoint, row)).row().keys()
        assert np.array_equal(histogram.values, value_histogram(load_piece(checkpoint, row)).values)
    by_name = {reading.id: reading.histogram for reading in found}
    w_up = by_name["h.1.mlp.c_fc.weight"]
    assert (w_up.absmax, w_up.absmax_row, w_up.absmax_col) == (7.0, 100, 3), "in the logical orientation (out, in)"
    profile = next(reading.profile for reading in found if reading.id == "h.1.mlp.c_fc.weight")
    assert profile.by_row[2].argmax() == 100 and profile.by_column[2].argmax() == 3
    query = stored["h.0.attn.c_attn.weight"][:, :32]
    assert np.array_equal(by_name["h.0.attn.c_attn.weight#W_Q"].values, value_histogram(query).values)


def test_a_fused_tensor_is_read_once(read):
    checkpoint, tensors, names = read
    names.clear()
    list(readings(portions(tensors, checkpoint, load_piece)))
    assert names.count(("h.0.attn.c_attn.weight", "None")) == 1
    assert len(names) == len(set(names)), "three parts of a bias are three ranges of it"


@pytest.mark.parametrize("block", [64, 1000 * 8, 1 << 20])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_blocks_of_a_file_give_what_the_tensor_gives(tmp_path, monkeypatch, block, dtype):
    monkeypatch.setattr(streaming, "BLOCK_BYTES", block)
    monkeypatch.setattr(streaming, "_thread", threading.local())
    weights = random(300, 301).to(dtype)
    tensors = {"w": weights, "empty": weights[:0].clone(), "scalar": weights[0, 0].clone()}
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.from_folder(tmp_path)
    for name, tensor in tensors.items():
        path = tmp_path / "model.safetensors"
        row = SimpleNamespace(id=name, expert=None)
        ((_, found, profile),) = streaming._by_blocks(row, checkpoint.entries[name], path, tuple(tensor.shape))
        whole = value_histogram(tensor)
        assert (profile is None) == (tensor.ndim < 2)
        if profile is not None:
            assert np.array_equal(profile.by_row[2], np.abs(tensor.double().numpy()).max(1, initial=0))
            assert profile.by_column[0].sum() == pytest.approx(float(tensor.double().sum()), abs=1e-9)
        assert (found.n, found.absmax_row, found.absmax_col) == (whole.n, whole.absmax_row, whole.absmax_col)
        assert np.array_equal(found.counts, whole.counts)
        assert found.percentiles == pytest.approx(whole.percentiles, abs=0, rel=0, nan_ok=True)


def test_views_of_a_storage_give_their_own_values_and_places(tmp_path):
    # In a PyTorch file a tensor may be some elements of a storage, in another order than they lie there.
    whole = random(40, 60)
    whole[4, 9] = 7.0
    turned = torch.randn(8, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)).conj().imag
    views = {"every_other": whole[::2, ::3], "transposed": whole.t(), "row": whole[:1].expand(4, 60), "turned": turned}
    torch.save(views, tmp_path / "model.pt")
    checkpoint = Checkpoint.from_folder(tmp_path)
    table = inventory(checkpoint, family="llama", allow_other=True)
    for name, found, profile in readings(portions(table, checkpoint, load_piece)):
        expected = value_histogram(views[name].resolve_neg())
        assert np.array_equal(profile.by_row[2], views[name].resolve_neg().double().abs().amax(1).numpy())
        assert np.array_equal(found.values, expected.values) and np.array_equal(found.counts, expected.counts), name
        assert (found.absmax_row, found.absmax_col) == (expected.absmax_row, expected.absmax_col), name


def test_results_do_not_depend_on_threads(read, tmp_path):
    checkpoint, tensors, _ = read
    written = []
    for threads in (1, 2, 7):
        path = tmp_path / f"{threads}.parquet"
        beside = path.with_suffix(".profile.parquet")
        with profile_file(beside, tensors) as profiles:
            read = profiles.passing(readings(portions(tensors, checkpoint, load_piece), threads))
            write_parts(path, histogram_parts(tensors, read))
        written.append((path.read_bytes(), beside.read_bytes()))
    assert written[0] == written[1] == written[2]


def test_a_file_that_ends_or_goes_away(tmp_path):
    save_file({"w": random(300, 300)}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.from_folder(tmp_path)
    path, entry = tmp_path / "model.safetensors", checkpoint.entries["w"]
    row = SimpleNamespace(id="w", expert=None)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AtlasError, match="ends inside a tensor"):
        streaming._by_blocks(row, entry, path, (300, 300))
    path.unlink()
    with pytest.raises(AtlasError, match="cannot read"):
        streaming._by_blocks(row, entry, path, (300, 300))


def test_a_plain_model_needs_neither_torch_nor_a_compiler(tmp_path):
    save_file({"w": random(300, 300, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    code = f"""
import sys
import pandas as pd
from pathlib import Path
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.families.pieces import load_piece
from weight_atlas.weights.streaming import portions, readings
row = {{"id": "w", "tensor": "w", "selection": "", "expert": None, "rows": 300, "cols": 300, "readable": True}}
inventory = pd.DataFrame([row | {{"layer": None, "tied_to": "", "parameters": 90_000, "bytes": 180_000, "note": ""}}])
work = portions(inventory, Checkpoint.from_folder(Path({str(tmp_path)!r})), load_piece)
((_, found, _),) = readings(work, threads=2)
print(found.n, *({{"torch", "numba", "scipy", "matplotlib"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "90000\n"


def test_memory_bounds_what_runs_at_once(monkeypatch):
    monkeypatch.setattr(streaming, "SPARE_BYTES", 10)
    held, most, lock, four = [], [], threading.Lock(), threading.Event()

    def make(size: int) -> list:
        with lock:
            held.append(size)
            most.append((sum(held), len(held)))
            if len(held) == 4:
                four.set()
        four.wait(60)  # until there were as many at once as there may be, however slow threads are to start
        with lock:
            held.remove(size)
        return [Reading(str(size), value_histogram(torch.zeros(1)))]

    sizes = [5, 100, 3, 100, 100, 1, 1, 1, 1, 40, 70, 100, 2] * 3
    found = list(readings((Portion(size, partial(make, size)) for size in sizes), threads=4))
    assert [int(reading.id) for reading in found] == sizes
    assert max(total for total, _ in most) <= 2 * 100 + 10
    assert max(count for _, count in most) == 4


def test_results_do_not_pile_up_behind_a_slow_one():
    started, go_on = [], threading.Event()

    def make(number: int) -> list:
        started.append(number)
        if number == 0:
            go_on.wait(600)
        return [Reading(str(number), value_histogram(torch.zeros(1)))]

    found: list = []
    histograms = readings((Portion(0, partial(make, number)) for number in range(100)), threads=2)
    consumer = threading.Thread(target=lambda: found.extend(histograms))
    consumer.start()
    deadline = time.monotonic() + 300
    while len(started) <= 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)  # in which all would start if nothing held them back
    assert 2 < len(started) <= 8
    go_on.set()
    consumer.join()
    assert [int(reading.id) for reading in found] == list(range(100))


def test_an_error_in_one_tensor_ends_the_run():
    def broken() -> list:
        raise AtlasError("the file ends", where="shard")

    work = [Portion(1, lambda: [Reading("a", value_histogram(torch.zeros(1)))]), Portion(1, broken)]
    with pytest.raises(AtlasError, match="the file ends"):
        list(readings(work * 5, threads=2))


def test_nan_is_said_and_counted(capsys):
    tensor = torch.tensor([1.0, float("nan"), float("inf"), 2.0])
    ((_, histogram, _),) = warned([Reading("w", value_histogram(tensor))])
    assert histogram.moments.mean == 1.5
    assert capsys.readouterr().out == (
        "warning: w: 1 NaN and 1 infinite of 4 elements; its statistics are those of the other 2\n"
    )
    list(warned([Reading("w", value_histogram(tensor[:1]))]))
    assert capsys.readouterr().out == ""


def table_of(count: int) -> tuple[pd.DataFrame, list]:
    named = [Reading(f"t{i}", value_histogram(random(20 + i, 30))) for i in range(count)]
    known = pd.DataFrame({"id": [reading.id for reading in named], "tensor": "t", "piece": "", "role": "W_Q"})
    known = known.assign(stack="decoder", layer=[None, *range(count - 1)], expert=None, rows=20, cols=30, dtype="F32")
    return known, named


def test_the_table_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("weight_atlas.weights.histogram_table._PART_VALUES", 1500)
    known, named = table_of(7)
    known = known.iloc[::-1]  # rows come in the order of the histograms
    path = tmp_path / "h.parquet"
    assert write_parts(path, histogram_parts(known, named)) == 7
    parts = list(read_part_file(path))
    assert [len(part) for part in parts] == [3, 3, 1]
    table = pd.concat(parts, ignore_index=True)
    assert table["id"].tolist() == [reading.id for reading in named]
    assert table["layer"].tolist() == [pd.NA, 0, 1, 2, 3, 4, 5] and table["expert"].isna().all()
    for row, (_, histogram, _) in zip(table.itertuples(), named, strict=True):
        assert np.array_equal(row.values, histogram.values) and np.array_equal(row.counts, histogram.counts)
        assert row.mean == histogram.moments.mean and row.p99_9 == histogram.percentiles[-1]
    assert pd.read_parquet(path).equals(table)
    assert [list(part) for part in read_part_file(path, ["id", "n"])] == [["id", "n"]] * 3


def test_tables_that_are_not_there(tmp_path):
    with pytest.raises(AtlasError, match="a table is missing"):
        list(read_part_file(tmp_path / "none.parquet"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(AtlasError, match="a table cannot be read"):
        list(read_part_file(tmp_path / "broken.parquet"))
    with pytest.raises(AtlasError, match="no tensor"):
        write_parts(tmp_path / "x.parquet", [])
    assert not (tmp_path / "x.parquet").exists()


def test_the_table_of_profiles(gpt2, read, tmp_path, monkeypatch):
    monkeypatch.setattr("weight_atlas.weights.profile_table._PART_NUMBERS", 5_000)
    (checkpoint, tensors, _), stored = read, gpt2[1]
    path = tmp_path / "profile.parquet"
    with profile_file(path, tensors) as profiles:
        list(profiles.passing(readings(portions(tensors, checkpoint, load_piece))))
    found = {profile.id: profile for profile in read_part_rows(path)}
    own = tensors[(tensors["tied_to"] == "") & tensors["cols"].notna()]
    assert list(found) == own["id"].tolist()
    # In the logical orientation (out, in): head by head rows of W_Q, columns of W_O.
    fused, out = (stored[f"h.0.attn.{name}.weight"].double().numpy() for name in ("c_attn", "c_proj"))
    for name, heads in (
        ("h.0.attn.c_attn.weight#W_K", fused[:, 32:64].T.reshape(4, 8, 32)),
        ("h.0.attn.c_proj.weight", out.T.reshape(32, 4, 8).swapaxes(0, 1)),
    ):
        table = by_head(found[name])
        assert table["head"].tolist() == [0, 1, 2, 3] and table["elements"].tolist() == [256] * 4
        assert table["absmax"].tolist() == np.abs(heads).max((1, 2)).tolist()
        assert table["squares"].tolist() == pytest.approx((heads**2).sum((1, 2)).tolist(), rel=1e-14)
        assert table["zeros"].tolist() == (heads == 0).sum((1, 2)).tolist()
    assert by_head(found["wte.weight"]).empty
    assert np.array_equal(cells(found["wte.weight"], "cell_mean"), stored["wte.weight"].float().numpy()), (
        "each element has a cell of its own"
    )


def test_profiles_of_a_model_without_matrices(tmp_path):
    save_file({"w": random(30)}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.from_folder(tmp_path)
    table = inventory(checkpoint, family="llama", allow_other=True)
    with profile_file(tmp_path / "profile.parquet", table) as profiles:
        list(profiles.passing(readings(portions(table, checkpoint, load_piece))))
    assert list(read_part_rows(tmp_path / "profile.parquet")) == []
