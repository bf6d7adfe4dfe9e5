"""Second moments of the inputs of matrices, against activations seen in another way."""

import numpy as np
import pytest
import torch
from live_models import own_text, tiny

from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.input_moments import input_second_moments


@pytest.mark.parametrize(("layout", "head"), [("llama", "lm_head.weight"), ("gpt2", None)])
def test_the_head_reads_what_the_last_norm_gives(layout, head):
    live = anatomy(tiny(layout))
    windows = own_text(live, windows=3, length=16)
    table = input_second_moments(live, windows)
    assert (table["tokens"] == windows.ids.numel()).all()
    # What comes out of the last norm is the last hidden state that the model gives.
    with torch.inference_mode():
        hidden = [live.model(window[None], output_hidden_states=True).hidden_states[-1] for window in windows.ids]
    expected = torch.cat(hidden, dim=1)[0].double().square().mean(0)
    name = head or next(name for name in table["tensor"] if "wte" in name or "lm_head" in name)
    assert table.set_index("tensor").loc[name, "moments"] == pytest.approx(expected.tolist(), rel=1e-4)


def test_names_are_those_on_disk_and_widths_those_of_the_matrices():
    live = anatomy(tiny("gpt2"))
    table = input_second_moments(live, own_text(live, windows=1, length=8)).set_index("tensor")
    widths = {name: len(moments) for name, moments in table["moments"].items()}
    assert [width for name, width in widths.items() if name.endswith("h.0.mlp.c_proj.weight")] == [96]
    assert [width for name, width in widths.items() if name.endswith("h.0.attn.c_attn.weight")] == [64]
    assert all(np.min(moments) >= 0 for moments in table["moments"])


def test_nothing_stays_behind_in_the_model():
    live = anatomy(tiny("llama"))
    input_second_moments(live, own_text(live, windows=1, length=8))
    assert not any(module._forward_pre_hooks for module in live.model.modules())
