"""Weights that are too large for chance, in the matrices and biases of every layout, and what only their size shows."""

import pandas as pd
import pytest
import torch
from live_models import LAYOUTS, tiny

from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.edits import value_at
from weight_atlas.super_weights.outliers import OF_A_MATRIX, outliers

NOTHING = pd.DataFrame({"size": [], "gaussian_size": []})


@pytest.mark.parametrize("layout", ["llama", "qwen2", "phi3", "gpt_neox", "gpt2", "mixtral", "deepseek_v3"])
def test_one_weight_of_every_part_is_listed_at_its_place(layout):
    assert layout in LAYOUTS
    live = anatomy(tiny(layout))
    planted = set()
    for number, part in enumerate(live.parts):
        down = part.role == Role.W_DOWN and part.layer is not None
        if down or part.role in (Role.NORM, Role.OTHER) or part.stack == "other":
            continue
        # Tied matrices are one; a value that no other part has tells the part.
        part.at(1, 2 if not part.vector else None).fill_(50.0 + number)
        planted.add(50.0 + number)
    found = outliers(live, NOTHING, [])
    tied = {float(part.values()[1, 2]) for part in live.parts if part.role in (Role.W_E, Role.W_U)}
    assert {value_at(live, each.place) for each in found} == planted & ({*planted} - {50.0} | tied)
    assert {(each.place.row, each.place.col) for each in found} <= {(1, 2), (1, 0)}
    assert [each.row.far for each in found] == sorted((each.row.far for each in found), reverse=True)


def test_a_random_model_has_none_and_known_ones_are_left_out():
    live = anatomy(tiny("llama"))
    assert not outliers(live, NOTHING, [])
    matrix = live.layers[2].self_attn.q_proj.weight.data
    matrix[5, :4] = torch.tensor([3.0, -4.0, 5.0, 2.0])
    found = outliers(live, NOTHING, [])
    assert [(str(each.place), each.kind, each.found_by) for each in found] == [
        ("layer 2 W_Q self_attn.q_proj [5, 2]", "element", "screening"),
        ("layer 2 W_Q self_attn.q_proj [5, 1]", "element", "screening"),
    ]
    assert len(found) == OF_A_MATRIX
    assert found[0].row.size == pytest.approx(5 / float(matrix.double().square().mean().sqrt()), rel=1e-6)
    assert [each.place.col for each in outliers(live, NOTHING, [found[0].place])] == [1]
