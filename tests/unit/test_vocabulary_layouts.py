"""Neurons and targets of every layout: what is read from the checkpoint is what the live model does."""

import live_models
import numpy as np
import pandas as pd
import pytest
import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.families.inventory import inventory
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.edits import value_at
from weight_atlas.live.layer_restart import chain
from weight_atlas.live.matrices import matrix_at
from weight_atlas.vocabulary.down_projections import down_projections, projections_of
from weight_atlas.vocabulary.effects import direct_effects
from weight_atlas.vocabulary.neuron_scan import prepare, scan
from weight_atlas.vocabulary.neurons import neuron_blocks
from weight_atlas.vocabulary.readout import read_readout
from weight_atlas.vocabulary.target_coordinates import coordinates_of
from weight_atlas.vocabulary.targets import find_targets, target_name

# Norms after the MLP divide by what only a forward pass knows, so they have a test of their own.
LAYOUTS = ["llama", "qwen2", "cohere", "gpt_neox", "gpt2", "opt", "mixtral", "qwen2_moe", "olmoe", "gpt_oss", "dbrx",
           "deepseek_v3"]  # fmt: skip


@pytest.fixture(scope="module", params=LAYOUTS)
def saved(request, tmp_path_factory):
    model = live_models.with_uneven_norms(request.param, seed=3)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    checkpoint = Checkpoint.from_folder(folder)
    return anatomy(model), checkpoint, inventory(checkpoint)


def readings(live, residual):
    """Logits that the model's own tail reads from residual streams (n, d_model)."""
    way = chain(live, torch.tensor([[1, 5]]))
    hidden = residual.float()[:, None].expand(-1, 2, -1).contiguous()
    return way.logits(hidden, torch.tensor([1]))[:, 0].double()


def test_effects_are_derivatives_of_the_models_own_logits(saved):
    live, checkpoint, rows = saved
    readout = read_readout(checkpoint, rows)
    generator = torch.Generator().manual_seed(1)
    residual = torch.randn(live.d_model, generator=generator, dtype=torch.float64)
    for block in neuron_blocks(checkpoint, rows, readout):
        if block.layer != 1:
            continue
        vector = readout.seen(block.vectors[:, 4].double())
        deviation = readout.seen(residual)
        # Along the deviation itself the norm's division changes, which effects leave out.
        vector = vector - deviation * (vector @ deviation) / (deviation @ deviation)
        # Large enough for float32; the deviation's length grows by the same for both signs.
        size = 0.05 * deviation.norm() / vector.norm()
        up, down = readings(live, torch.stack([residual + size * vector, residual - size * vector]))
        slow = (up - down) / (2 * size) * (deviation + size * vector).square().mean().sqrt()
        found = direct_effects(readout, vector)
        np.testing.assert_allclose(found, slow.numpy(), rtol=2e-3, atol=2e-3 * np.abs(found).max())


def test_neurons_are_the_live_models(saved):
    live, checkpoint, rows = saved
    readout = read_readout(checkpoint, rows)
    blocks = list(neuron_blocks(checkpoint, rows, readout))
    places = {(b.layer, b.expert, "shared" in b.component) for b in blocks}
    wanted = set()
    for projection in live.projections:
        experts = range(projection.n_experts) if projection.stacked else [projection.expert]
        wanted |= {(projection.layer, expert, projection.shared_expert) for expert in experts}
    assert places == wanted
    table = scan(prepare(readout, np.ones(readout.vocabulary, bool)), blocks, k=3)
    assert len(table) == sum(block.vectors.shape[1] for block in blocks)
    some = table[table.layer == 2].iloc[[0, -1]]
    chosen = list(neuron_blocks(checkpoint, rows, readout, rows=projections_of(rows, some)))
    assert {block.layer for block in chosen} == {2}


def test_targets_are_the_live_models(saved):
    live, checkpoint, rows = saved
    for projection in live.projections:
        if projection.layer != 1:
            continue
        expert = 1 if projection.stacked else projection.expert
        place = projection.coordinate(3, 5, expert)
        record = {"layer": 1, "row": 3, "column": 5, "expert_id": expert, "component": projection.component}
        (target,) = find_targets(checkpoint, rows, [record, record])
        assert target["original_value"] == pytest.approx(value_at(live, place), abs=1e-7)
        assert coordinates_of([target]) == [place]
        assert matrix_at(live, place)[3, 5].item() == pytest.approx(target["original_value"], abs=1e-7)
        assert "/" not in target_name(target) and target_name(target).endswith("-L1-R3-C5")


def test_targets_that_are_not_there(saved):
    _, checkpoint, rows = saved
    cols = int(down_projections(rows).cols.max())
    expert = [0] if pd.notna(down_projections(rows).query("layer == 1").expert.iloc[0]) else []
    with pytest.raises(AtlasError, match="lies outside"):
        find_targets(checkpoint, rows, coordinates=[[1, *expert, 0, cols]])
    with pytest.raises(AtlasError, match="no MLP output projection"):
        find_targets(checkpoint, rows, coordinates=[[99, 0, 0]])
    with pytest.raises(AtlasError, match="is no weight"):
        find_targets(checkpoint, rows, coordinates=[[1, 2]])


@pytest.mark.parametrize(("stack", "words"), [("encoder", "the neurons of an encoder"), (None, "there are no neurons")])
def test_an_encoder_is_not_said_to_have_no_neurons(stack, words):
    rows = {"role": ["W_down"] if stack else ["ssm_out"], "stack": stack or "decoder", "layer": 0, "readable": True}
    with pytest.raises(NotApplicable, match=words):
        down_projections(pd.DataFrame(rows))
