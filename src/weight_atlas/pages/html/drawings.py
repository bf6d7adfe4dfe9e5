"""The chunks that cards are drawn from: of tensors, and of attention heads."""

from pathlib import Path
from typing import Any

import numpy as np

from weight_atlas.artifacts import read_table
from weight_atlas.not_applicable import reason_of
from weight_atlas.pages.html.cards import MOST_TENSORS, POINTS, distributions, pictures, side_of, spectra
from weight_atlas.pages.html.encoding import grouped, in_chunks, write_chunk
from weight_atlas.pages.html.grids import keys_of
from weight_atlas.pages.html.sources import Artifacts

# Bytes of a chunk of cards.
CHUNK = 200_000
EIGENVALUES = 256


def write_cards(data: Path, grids: list[dict[str, Any]], artifacts: Artifacts) -> dict[str, Any]:
    """Write what tensors' cards draw; for each cell of the map of tensors its chunk, -1 where there is nothing to draw.

    Of models with more than MOST_TENSORS tensors, single experts have none.
    """
    cells = grids[0]["cells"]
    experts = cells["expert"] or [None] * len(cells["id"])
    many = len(cells["id"]) > MOST_TENSORS
    wanted = {name for name, expert in zip(cells["id"], experts, strict=True) if expert is None or not many}
    cards: dict[str, dict[str, Any]] = {}
    sources = (
        ("values", artifacts.value_histogram, distributions),
        ("spectrum", artifacts.singular_values, spectra),
        ("picture", artifacts.weight_profile, lambda path, ids: pictures(path, ids, side_of(len(ids)))),
    )
    for name, path, read in sources:
        if path is not None and path.is_file() and reason_of(path) is None:
            for tensor, content in read(path, wanted):
                cards.setdefault(tensor, {})[name] = content
    cards = {name: cards[name] for name in cells["id"] if name in cards}
    chunks = in_chunks((len(str(card)) for card in cards.values()), CHUNK)
    for chunk, content in grouped(cards, chunks).items():
        write_chunk(data, f"cards/{chunk}", content)
    place = dict(zip(cards, chunks, strict=True))
    return {"chunk": [place.get(name, -1) for name in cells["id"]], "experts_left_out": many and None not in experts}


def write_heads(data: Path, grids: list[dict[str, Any]], path: Path | None) -> dict[str, Any]:
    """Write what heads' cards draw, of the kernel of each circuit: its singular values and its eigenvalues."""
    grid = next((grid for grid in grids if grid["kind"] == "head"), None)
    if grid is None or path is None or not path.is_file() or reason_of(path) is not None:
        return {}
    kernels = read_table(path)
    kernels = kernels[kernels["head"].notna()]
    cells = {key: number for number, key in enumerate(grid["keys"])}
    cards: dict[str, dict[str, Any]] = {}
    for key, row in zip(keys_of(kernels, "head"), kernels.to_dict("records"), strict=True):
        if key in cells:
            cards.setdefault(str(cells[key]), {})[str(row.get("circuit", ""))] = _kernel(row)
    chunks = in_chunks((len(str(card)) for card in cards.values()), CHUNK)
    for chunk, content in grouped(cards, chunks).items():
        write_chunk(data, f"heads/{chunk}", content)
    return {"chunk": [dict(zip(cards, chunks, strict=True)).get(str(number), -1) for number in range(len(cells))]}


def _kernel(row: dict[str, Any]) -> dict[str, Any]:
    sigma = _list(row.get("singular_values"))
    place = np.unique(np.linspace(1, len(sigma), min(POINTS, len(sigma))).round().astype(int))
    real, imaginary = _list(row.get("eigenvalues_real")), _list(row.get("eigenvalues_imag"))
    return {
        "place": [int(each) for each in place],
        "sigma": [_short(sigma[each - 1]) for each in place],
        "real": [_short(value) for value in real[:EIGENVALUES]],
        "imaginary": [_short(value) for value in imaginary[:EIGENVALUES]],
    }


def _list(values: Any) -> np.ndarray:
    return np.asarray(values if values is not None else [], dtype=np.float64)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
