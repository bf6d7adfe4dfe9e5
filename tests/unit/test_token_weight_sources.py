"""Weights of tokens out of files of every kind: the named tensor alone, as float64."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from standin_hub import COMMIT, Repository, ask_instead, standin_hub

from weight_atlas.artifacts import write_json
from weight_atlas.checkpoint import safetensors_file
from weight_atlas.checkpoint.named_tensor import tensors_of
from weight_atlas.errors import AtlasError
from weight_atlas.settings.token_weights import Table, TokenWeights, Vector, VectorFile
from weight_atlas.token_weights.byte_floats import numbers_of
from weight_atlas.token_weights.choices import Vectors
from weight_atlas.token_weights.hub_file import fetch_vector, open_vector
from weight_atlas.token_weights.reading import read_token_weights, row_norms
from weight_atlas.token_weights.study import read_vector

V = 50
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=V)
TABLE = RANDOM.normal(size=(V, 4))


def read(path, **settings):
    return read_token_weights(path, Table(**settings), 3)


def detector(path, dtype=torch.float32, vocabulary=V):
    """A checkpoint laid out like the language detector's, with a buffer that must not be read."""
    state = {
        "token_weights": torch.tensor(WEIGHTS, dtype=dtype)[:, None],
        "embeddings": torch.zeros(vocabulary, 4096),
        "token_mask": torch.tensor(WEIGHTS > 0)[:, None],
        "projection.weight": torch.zeros(5, 8),
    }
    optimizer = {"state": {0: {"exp_avg": torch.zeros(V, 1)}}, "param_groups": [{"lr": 1e-3}]}
    torch.save({"epoch": 1, "step": 5, "model_state_dict": state, "optimizer_state_dict": optimizer}, path)
    return path


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_detectors_checkpoint_in_every_type(tmp_path, dtype):
    path = detector(tmp_path / "checkpoint_epoch_1.pt", dtype)
    expected = torch.tensor(WEIGHTS, dtype=dtype).double().numpy()
    for key in ("model_state_dict.token_weights", "token_weights", None):
        found = read(path, key=key, mask_key="model_state_dict.token_mask")
        np.testing.assert_array_equal(found.weights, expected)
        np.testing.assert_array_equal(found.kept, WEIGHTS > 0)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_bytes_are_the_numbers_that_torch_reads_them_as(name):
    expected = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name)).double().numpy()
    np.testing.assert_array_equal(numbers_of(name), expected)


def test_bytes_of_e3m4_by_its_definition():
    """Three bits of exponent with a bias of 3, four of mantissa; the highest exponent is infinity or NaN."""
    numbers = numbers_of("float8_e3m4")
    by_hand = {0x00: 0, 0x01: 2**-6, 0x0F: 15 * 2**-6, 0x10: 0.25, 0x30: 1, 0x3F: 1.9375, 0x6F: 15.5, 0xB8: -1.5}
    assert {byte: numbers[byte] for byte in by_hand} == by_hand
    assert numbers[0x70] == np.inf and numbers[0xF0] == -np.inf and np.isnan(numbers[0x71:0x80]).all()
    assert np.array_equal(numbers[128:], -numbers[:128], equal_nan=True)


def table_of_bytes(path, code=26, **more):
    """Laid out like the filtered table of a language detector; its bytes."""
    bytes_ = np.random.default_rng(3).integers(0, 0x70, (V, 4)).astype(np.uint8)
    tensors = {
        "lookup_table": torch.tensor(bytes_),
        "dtype": torch.tensor([code], dtype=torch.uint8),
        "shape": torch.tensor([V, 4]),
        "scale": torch.tensor([3.0]),
        "zero_weight_mask": torch.tensor(WEIGHTS < 0).byte(),
        "min_count_threshold": torch.tensor([10], dtype=torch.int32),
    }
    save_file(tensors | more, path)
    return bytes_


def test_a_detectors_table_of_bytes(tmp_path):
    path = tmp_path / "lookup_table_fp8_e3m4.safetensors"
    bytes_ = table_of_bytes(path)
    weights = 3 * numbers_of("float8_e3m4")[bytes_]
    settings = {"key": "lookup_table", "mask_key": "zero_weight_mask", "mask_marks": "masked"}
    found = read(path, reduce="max", columns=["de", "en", "fr", "it"], **settings)
    np.testing.assert_array_equal(found.weights, weights.max(axis=1))
    np.testing.assert_array_equal(found.kept, WEIGHTS >= 0)
    assert found.best[found.best["column"] == "en"]["weight"].iloc[0] == weights[:, 1].max()
    assert "float8_e3m4 times 3" in found.made_of
    np.testing.assert_array_equal(read(path, column=2, **settings).weights, weights[:, 2])
    table_of_bytes(path, code=0)
    expected = 3 * numbers_of("float8_e4m3fn")[bytes_][:, 1]
    np.testing.assert_array_equal(read(path, column=1, **settings).weights, expected)
    said = {"bytes_are": "float8_e5m2", "scale_key": "min_count_threshold"}
    expected = 10 * numbers_of("float8_e5m2")[bytes_][:, 1]
    np.testing.assert_array_equal(read(path, column=1, **said, **settings).weights, expected)


def test_bytes_that_are_no_numbers_of_8_bits(tmp_path):
    path = tmp_path / "t.safetensors"
    table_of_bytes(path, code=99)
    with pytest.raises(AtlasError, match="bytes of an unknown type"):
        read(path, key="lookup_table", column=0)
    table_of_bytes(path, scale=torch.ones(2))
    with pytest.raises(AtlasError, match="scale holds 2 numbers"):
        read(path, key="lookup_table", column=0)
    with pytest.raises(AtlasError, match="not of bytes"):
        read(path, key="min_count_threshold", bytes_are="float8_e3m4")
    save_file({"plain": torch.arange(V, dtype=torch.uint8)}, path)
    np.testing.assert_array_equal(read(path).weights, np.arange(V))


def test_a_file_on_the_hub(tmp_path, monkeypatch):
    save_file({"token_weights": torch.tensor(WEIGHTS)[:, None], "bias": torch.zeros(4)}, tmp_path / "p.safetensors")
    files = {"projection.safetensors": (tmp_path / "p.safetensors").read_bytes(), "model.safetensors": b"x" * 99}
    with standin_hub({"org/name": Repository(files)}) as hub:
        ask_instead(hub.endpoint, monkeypatch, tmp_path / "hub")
        settings = Vector(source="hf://org/name/projection.safetensors", revision="v1", key="token_weights")
        write_json(tmp_path / "manifest.json", fetch_vector(settings))
        vector = read_vector(settings, fetched=tmp_path / "manifest.json")
        assert not [path for _, path, _ in hub.requests if "model.safetensors" in path]
    np.testing.assert_array_equal(vector.weights, WEIGHTS)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["revision"] == COMMIT and manifest["file"]["name"] == "projection.safetensors"
    assert manifest["file"]["sha256"] == hashlib.sha256(files["projection.safetensors"]).hexdigest()


def test_what_is_no_file_on_the_hub(tmp_path):
    for source in ("hf://org/name", "some/file.safetensors"):
        with pytest.raises(AtlasError, match="no file on the hub"):
            fetch_vector(VectorFile(source=source))
    write_json(tmp_path / "m.json", {"source": "hf://org/name/a.pt"})
    with pytest.raises(AtlasError, match="not the manifest of a vector"):
        open_vector(tmp_path / "m.json")
    with pytest.raises(ValueError, match="revision"):
        TokenWeights(source="a.pt", revision="main")


def test_a_vector_on_the_hub_waits_for_its_file():
    entry = TokenWeights(source="hf://org/name/a.pt").model_dump()
    vectors = Vectors({"token_weights": {"v": entry, "w": entry | {"source": "a.pt"}}, "models": {}, "corpora": {}})
    assert vectors.files("v") == [] and len(vectors.files("w")) == 1
    assert vectors.fetched("v", "fetched/{vector}.json") == {"fetched": "fetched/v.json"}
    assert vectors.fetched("w", "fetched/{vector}.json") == {}


def test_only_the_named_tensors_are_read(tmp_path, monkeypatch):
    path = detector(tmp_path / "c.pt", vocabulary=4000)
    seen = []
    own = safetensors_file.read_into
    monkeypatch.setattr(
        "weight_atlas.checkpoint.pytorch_file.read_into",
        lambda tensor, *rest: (seen.append(tensor.nbytes), own(tensor, *rest))[1],
    )
    read(path, key="model_state_dict.token_weights", mask_key="token_mask")
    assert sum(seen) == V * 4 + V


@pytest.mark.parametrize("shape", [(V,), (V, 1), (1, V), (V, 1, 1)])
def test_vectors_of_every_shape(tmp_path, shape):
    values = WEIGHTS.astype(np.float32).reshape(shape)
    np.save(tmp_path / "w.npy", values)
    save_file({"other": torch.zeros(3), "a.token_weights": torch.tensor(values)}, tmp_path / "w.safetensors")
    torch.save(torch.tensor(values), tmp_path / "w.pt")
    for name in ("w.npy", "w.safetensors", "w.pt"):
        np.testing.assert_array_equal(read(tmp_path / name).weights, values.reshape(-1))


@pytest.mark.parametrize("dtype", [">f4", "<f8", "int8", "uint16", "int64", "bool", "f2"])
def test_npy_of_every_kind_of_number(tmp_path, dtype):
    values = (np.abs(WEIGHTS) * 20).astype(dtype)
    np.save(tmp_path / "w.npy", np.asfortranarray(values[:, None]))
    np.testing.assert_array_equal(read(tmp_path / "w.npy").weights, values.astype(float))


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [
        ("norm", np.linalg.norm(TABLE, axis=1)), ("max", TABLE.max(1)), ("min", TABLE.min(1)), ("mean", TABLE.mean(1)),
        ("absmax", np.abs(TABLE).max(1)), ("sum", TABLE.sum(1)),
    ],
)  # fmt: skip
def test_tables_are_reduced(tmp_path, reduce, expected, monkeypatch):
    monkeypatch.setattr("weight_atlas.checkpoint.named_tensor.CHUNK", 4 * 7)  # 7 rows at a time
    save_file({"t": torch.tensor(TABLE), "u": torch.zeros(2)}, tmp_path / "t.safetensors")
    np.testing.assert_allclose(read(tmp_path / "t.safetensors", key="t", reduce=reduce).weights, expected, rtol=1e-14)


NAMES = ["de", "en", "fr", "it"]


def expected_best(table, column, top):
    order = sorted(range(len(table)), key=lambda token: (-table[token, column], token))
    return order[:top]


def test_the_best_tokens_of_each_column(tmp_path, monkeypatch):
    monkeypatch.setattr("weight_atlas.checkpoint.named_tensor.CHUNK", 4 * 7)
    table = np.round(TABLE * 2) / 2  # with equal values
    table[3, 1] = np.nan
    table[:, 0] = 1.0
    np.save(tmp_path / "t.npy", table)
    (tmp_path / "names.json").write_text(
        json.dumps({name: number for number, name in reversed(list(enumerate(NAMES)))})
    )
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    for columns in (NAMES, str(tmp_path / "names.json"), str(tmp_path / "names.txt")):
        best = read(tmp_path / "t.npy", column="fr", columns=columns).best
        for number, name in enumerate(NAMES):
            own = table.copy()
            own[np.isnan(own)] = -np.inf
            assert best[best["column"] == name]["id"].tolist() == expected_best(own, number, 3), name
    np.testing.assert_array_equal(read(tmp_path / "t.npy", column=2).weights, table[:, 2])


def sparse_parts():
    dense = np.where(RANDOM.random((V, 4)) < 0.1, TABLE, 0.0)
    row, column = np.nonzero(dense)
    return dense, row, column, dense[row, column]


@pytest.mark.parametrize(
    "names",
    [("row_indices", "col_indices", "values"), ("rows", "cols", "data"), ("x", "y", "z"), ("indices", None, "values")],
)
def test_sparse_tables(tmp_path, names, monkeypatch):
    monkeypatch.setattr("weight_atlas.token_weights.sparse_table.CHUNK", 4 * 7)
    dense, row, column, data = sparse_parts()
    order = RANDOM.permutation(len(row))
    parts = {names[0]: row[order], names[1]: column[order], names[2]: data[order]}
    if names[1] is None:
        parts = {"indices": np.stack([row, column])[:, order], "values": data[order]}
    parts["shape"] = np.array(dense.shape)
    save_file(
        {name: torch.tensor(np.ascontiguousarray(part)) for name, part in parts.items()}, tmp_path / "s.safetensors"
    )
    sparse = list(names) if names[0] == "x" else None
    found = read(tmp_path / "s.safetensors", sparse=sparse, reduce="absmax", columns=NAMES)
    np.testing.assert_array_equal(found.weights, np.abs(dense).max(1))
    assert found.best[found.best["column"] == "en"]["id"].tolist() == expected_best(dense, 1, 3)


def test_row_norms_do_not_overflow():
    rows = np.array([[3e200, 4e200], [3e-200, 4e-200], [0, -0.0], [np.inf, 1], [np.nan, 1], [5e-324, 0]])
    np.testing.assert_allclose(row_norms(rows), [5e200, 5e-200, 0, np.inf, np.nan, 5e-324])
    assert row_norms(np.empty((0, 3))).shape == (0,) and row_norms(np.ones((2, 1))).tolist() == [1, 1]


def test_empty_vectors(tmp_path):
    np.save(tmp_path / "w.npy", np.empty((0, 1)))
    assert len(read(tmp_path / "w.npy").weights) == 0


WRONG = {
    "text.npy": (lambda path: path.write_text("no array"), {}, "not a readable .npy file"),
    "objects.npy": (lambda path: np.save(path, np.array([{}, 1], dtype=object)), {}, "not a readable .npy file"),
    "words.npy": (lambda path: np.save(path, np.array(["a"])), {}, "is no number"),
    "empty.npy": (lambda path: path.touch(), {}, "not a readable .npy file"),
    "many.npy": (lambda path: np.savez(path.open("wb"), a=1, b=2), {}, "several arrays"),
    "huge.npy": (lambda path: np.save(path, np.full(50, -1e308)), {}, "weights of up to 1e+308, whose sums leave"),
    "deep.npy": (lambda path: np.save(path, np.zeros((2, 3, 4))), {}, "shape [2, 3, 4]"),
    "scalar.npy": (lambda path: np.save(path, np.float32(1)), {}, "shape []"),
    "table.npy": (lambda path: np.save(path, TABLE), {}, "is a table of 50 x 4"),
    "column.npy": (lambda path: np.save(path, TABLE), {"column": 4}, "there is no column 4"),
    "name.npy": (lambda path: np.save(path, TABLE), {"column": "e", "columns": NAMES}, "unknown column 'e'"),
    "names.npy": (lambda path: np.save(path, TABLE), {"column": 1, "columns": ["a", "b"]}, "2 names for 4 columns"),
    "complex.pt": (lambda path: torch.save({"w": torch.zeros(3, dtype=torch.complex64)}, path), {}, "complex"),
    "no.safetensors": (lambda path: save_file({"a": torch.zeros(2), "b": torch.zeros(2)}, path), {}, "no tensor is"),
    "key.pt": (detector, {"key": "model_state_dict.token_weight"}, "did you mean 'model_state_dict.token_weights'"),
    "mask.pt": (detector, {"mask_key": "projection.weight"}, "the mask model_state_dict.projection.weight has 40"),
    "x.gguf": (lambda path: path.touch(), {}, "not a file of tensors"),
    "gone.npy": (lambda path: None, {}, "does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_message(tmp_path, name):
    make, settings, said = WRONG[name]
    make(tmp_path / name)
    with pytest.raises(AtlasError) as error:
        read(tmp_path / name, **settings)
    assert said in str(error.value) and (str(tmp_path) in str(error.value) or "columns" in str(error.value))


def test_code_in_a_checkpoint_is_refused(tmp_path):
    torch.save({"token_weights": torch.zeros(3), "evil": print}, tmp_path / "w.pt")
    with pytest.raises(AtlasError, match="wants to run code"):
        read(tmp_path / "w.pt")


def test_sparse_tables_that_contradict_themselves(tmp_path):
    def wrong(**parts):
        save_file({name: torch.tensor(part) for name, part in parts.items()}, tmp_path / "s.safetensors")
        with pytest.raises(AtlasError) as error:
            read(tmp_path / "s.safetensors", reduce="max")
        return str(error.value)

    good = {"rows": [0, 1], "cols": [1, 0], "values": [1.0, 2.0]}
    assert "2, 2 and 1 entries" in wrong(**{**good, "values": [1.0]})
    assert "no whole numbers" in wrong(**{**good, "rows": [0.5, 1.0]}) and "no whole numbers" in wrong(
        **{**good, "cols": [-1, 0]}
    )
    assert "shape [1, 2]" in wrong(**good, shape=[1, 2])
    assert "larger than any vocabulary" in wrong(**{**good, "rows": [0, 2**62]})


def test_names_of_all_tensors(tmp_path):
    names = set(tensors_of(detector(tmp_path / "c.pt")))
    assert "optimizer_state_dict.state.0.exp_avg" in names and "model_state_dict.projection.weight" in names
