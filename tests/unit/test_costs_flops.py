"""The counted operations of a forward pass, against those that torch counts while it is made."""

import pytest
import torch
from live_models import tiny
from torch.utils.flop_counter import FlopCounterMode

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.costs.sizes import sizes_of
from weight_atlas.costs.work import Passes, flops

TOKENS, WINDOWS = 24, 2
FAMILIES = [
    "llama",
    "qwen2",
    "gpt2",
    "gemma2",
    "gpt_neox",
    "phi3",
    "opt",
    "mixtral",
    "qwen2_moe",
    "olmoe",
    "deepseek_v2",
]


def measured(model, ids):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, use_cache=False)
    return counter.get_total_flops()


@pytest.mark.parametrize("layout", FAMILIES)
def test_a_forward_pass_costs_what_torch_counts(layout, tmp_path):
    model = tiny(layout)
    # What the counter does not know: fused attention on a CPU, and products of all experts in one.
    model.set_attn_implementation("eager")
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    model.save_pretrained(tmp_path)
    sizes = sizes_of(Checkpoint.from_folder(tmp_path))
    ids = torch.arange(TOKENS * WINDOWS).reshape(WINDOWS, TOKENS) % sizes.vocabulary
    counted = flops(sizes, Passes(ids.numel(), TOKENS, 1, head=ids.numel()))
    assert counted == pytest.approx(measured(model, ids), rel=0.03), sizes
