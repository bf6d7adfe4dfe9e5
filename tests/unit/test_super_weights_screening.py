"""Screening from the weights alone, against a plain computation on whole matrices, for every layout."""

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import drawn, layouts, plant, tiny

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import load_piece
from weight_atlas.figures.super_weight_screening import screening
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.matrices import matrix_at
from weight_atlas.super_weights import screening as module
from weight_atlas.super_weights.screening import screen


def screened(model, folder, top=8):
    model.save_pretrained(folder)
    checkpoint = Checkpoint.from_folder(folder)
    return screen(inventory(checkpoint), lambda row: load_piece(checkpoint, row), top=top)


@pytest.mark.parametrize("layout", layouts())
def test_the_planted_weight_ranks_first(layout, tmp_path):
    live = anatomy(tiny(layout))
    place = plant(live, 1, 9, 21)
    table = screened(live.model, tmp_path)
    top = table.sort_values("size", ascending=False).iloc[0]
    assert (top.layer, top.row, top.column, top["rank"], top.weight) == (1, 9, 21, 1, 7.5)
    assert (None if pd.isna(top.expert) else top.expert) == place.expert
    assert table.loc[table.path_gain.idxmax(), ["layer", "row", "column"]].tolist() == [1, 9, 21]
    per_matrix = table.groupby(["layer", "component", "expert"], dropna=False).size()
    n_matrices = sum(p.n_experts or 1 for p in live.projections)
    assert len(per_matrix) == n_matrices
    assert (per_matrix == 8).all()


@pytest.mark.parametrize(("layout", "block"), [("llama", 1 << 22), ("phi3", 300), ("gpt2", 64), ("gpt_oss", 1000)])
def test_against_whole_matrices_in_float64(layout, block, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    live = anatomy(tiny(layout))
    table = screened(live.model, tmp_path, top=5)
    for projection in live.projections[:2]:
        expert = 1 if projection.stacked else None
        place = Coordinate(projection.layer, None, None, expert, component=projection.component)
        down = matrix_at(live, place).double().numpy()
        roles = ["W_up"] if layout == "gpt2" else ["W_gate", "W_up"]
        norms = np.prod(
            [
                np.linalg.norm(
                    matrix_at(live, Coordinate(place.layer, None, None, expert, role)).double().numpy(), axis=1
                )
                for role in roles
            ],
            axis=0,
        )
        scores = np.sqrt((down**2) @ norms**2)
        own = table[(table.layer == place.layer) & (table.expert.isna() if expert is None else table.expert == expert)]
        order = np.argsort(-np.abs(down), axis=None, kind="stable")[:5]
        assert (own.row * 10000 + own.column).tolist() == [
            i // down.shape[1] * 10000 + i % down.shape[1] for i in order
        ]
        rms = np.sqrt((down**2).mean())
        assert np.allclose(own["size"], np.abs(down).flatten()[order] / rms, rtol=1e-6)
        assert np.allclose(own.row_score, scores[own.row], rtol=1e-6)
        # torch takes the lower of two middle values.
        assert np.allclose(own.row_score_ratio, scores[own.row] / np.sort(scores)[31], rtol=1e-6)
        assert np.allclose(own.path_gain, np.abs(down).flatten()[order] * norms[own.column], rtol=1e-6)
        assert own.row_rank.tolist() == [1 + int((scores > scores[row]).sum()) for row in own.row]


def test_values_that_are_not_finite_are_passed_over(tmp_path):
    model = tiny("llama")
    model.model.layers[0].mlp.down_proj.weight[0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    model.model.layers[1].mlp.down_proj.weight[:] = 0
    table = screened(model, tmp_path)
    assert np.isfinite(table[table.layer == 0]["size"]).all()
    assert table[table.layer == 1]["size"].isna().all()
    assert "size" in drawn(screening(table))


def test_figure_of_nothing():
    empty = pd.DataFrame(columns=list(module.COLUMNS))
    assert "No MLP output projection" in drawn(screening(empty))
