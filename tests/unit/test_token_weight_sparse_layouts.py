"""Weights of tokens that a PyTorch file holds as a tensor of one of torch's sparse layouts."""

import numpy as np
import pytest
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.settings.token_weights import Vector
from weight_atlas.token_weights.reading import read_token_weights

V, L = 60, 4
RANDOM = np.random.default_rng(0)
TABLE = np.where(RANDOM.random((V, L)) < 0.2, RANDOM.normal(size=(V, L)), 0.0).astype(np.float32)
DENSE = torch.from_numpy(TABLE)
pytestmark = pytest.mark.filterwarnings("ignore:Sparse:UserWarning")


def read(path, **settings):
    return read_token_weights(path, Vector(source=str(path), **settings), 3)


def doubled() -> torch.Tensor:
    """Every entry twice, as a quarter and three quarters."""
    sparse = DENSE.to_sparse()
    indices, values = sparse.indices(), sparse.values().double()
    return torch.sparse_coo_tensor(torch.cat([indices, indices], 1), torch.cat([values / 4, values * 0.75]), (V, L))


LAYOUTS = {
    "coo": lambda: DENSE.to_sparse(),
    "coo with dense rows": lambda: DENSE.to_sparse(1),
    "csr": lambda: DENSE.to_sparse_csr(),
    "csc": lambda: DENSE.to_sparse_csc(),
    "bsr": lambda: DENSE.to_sparse_bsr((3, 2)),
    "bsc": lambda: DENSE.to_sparse_bsc((5, 4)),
    "parameter": lambda: torch.nn.Parameter(DENSE.to_sparse()),
    "entries of one place": doubled,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tables(tmp_path, layout, monkeypatch):
    monkeypatch.setattr("weight_atlas.token_weights.sparse_table.CHUNK", L * 7)
    table = LAYOUTS[layout]()
    np.testing.assert_allclose(table.detach().to_dense().numpy(), TABLE, rtol=1e-7)
    for name, content in {"in": {"model": {"token_weights": table, "bias": torch.ones(3)}}, "alone": table}.items():
        path = tmp_path / f"{name}.pt"
        torch.save(content, path)
        for reduce, expected in (("max", TABLE.max(1)), ("norm", np.linalg.norm(TABLE.astype(float), axis=1))):
            np.testing.assert_allclose(read(path, reduce=reduce).weights, expected, rtol=1e-7)
    names = ["de", "en", "fr", "it"]
    found = read(tmp_path / "in.pt", key="model.token_weights", column="fr", columns=names)
    np.testing.assert_allclose(found.weights, TABLE[:, 2], rtol=1e-7)
    assert found.best[found.best["column"] == "de"]["id"].tolist()[0] == TABLE[:, 0].argmax()
    with pytest.raises(AtlasError, match=f"is a table of {V} x {L}"):
        read(tmp_path / "in.pt")


@pytest.mark.parametrize("shape", [(V,), (V, 1), (1, V)])
def test_vectors_with_a_sparse_mask(tmp_path, shape):
    vector = torch.from_numpy(TABLE[:, 1].reshape(shape))
    mask = torch.arange(V) % 3 == 0
    torch.save({"token_weights": vector.to_sparse(), "mask": mask.to_sparse()}, tmp_path / "v.pt")
    found = read(tmp_path / "v.pt", mask_key="mask")
    np.testing.assert_array_equal(found.weights, TABLE[:, 1])
    np.testing.assert_array_equal(found.kept, mask.numpy())


def test_tables_without_entries(tmp_path):
    for number, empty in enumerate((torch.zeros(5, 2).to_sparse(), torch.zeros(5, 2).to_sparse_csr())):
        torch.save(empty, tmp_path / f"{number}.pt")
        assert read(tmp_path / f"{number}.pt", reduce="max").weights.tolist() == [0.0] * 5


def unchecked(make, *parts, shape=(4, 2)):
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        return make(*map(torch.tensor, parts), shape, check_invariants=False)


WRONG = {
    "a row beyond the shape": (torch.sparse_coo_tensor, [[1, 9], [0, 1]], [1.0, 2.0]),
    "a row below 0": (torch.sparse_coo_tensor, [[1, -1], [0, 1]], [1.0, 2.0]),
    "a column beyond the shape": (torch.sparse_csr_tensor, [0, 1, 2, 2, 2], [0, 7], [1.0, 2.0]),
    "rows that end before they begin": (torch.sparse_csr_tensor, [0, 2, 1, 2, 2], [0, 1], [1.0, 2.0]),
    "rows that end too early": (torch.sparse_csr_tensor, [0, 1, 1, 1, 1], [0, 1], [1.0, 2.0]),
    "too few rows": (torch.sparse_csr_tensor, [0, 2], [0, 1], [1.0, 2.0]),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_contradicts_itself_is_said(tmp_path, what):
    """Also where torch has not checked it."""
    make, *parts = WRONG[what]
    torch.save({"token_weights": unchecked(make, *parts)}, tmp_path / "w.pt")
    with pytest.raises(AtlasError, match=r"(?s)(contradict each other|with an entry at row).*w\.pt"):
        read(tmp_path / "w.pt", reduce="max")


def test_other_shapes_are_refused_as_dense_ones_are(tmp_path):
    torch.save(torch.ones(2, 3, 4).to_sparse(), tmp_path / "w.pt")
    with pytest.raises(AtlasError, match=r"has the shape \[2, 3, 4\]"):
        read(tmp_path / "w.pt", reduce="max")
    torch.save(torch.ones(3, 2, dtype=torch.complex64).to_sparse(), tmp_path / "c.pt")
    with pytest.raises(AtlasError, match="complex numbers"):
        read(tmp_path / "c.pt", reduce="max")
