"""Every family: a tiny model made by transformers and saved; its inventory; and what the live model computes."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import transformers
from forward_checks import (
    attention,
    experts,
    feed_forward,
    latent_attention,
    live_edits,
    live_experts,
    live_modules,
    live_routers,
    mixer,
)
from forward_truth import LENGTH, Observation, Pieces, first, observe, without_inner_norms
from name_list import NAMES, NameList, read_list, rows_of
from residual_checks import last_layer, near, neurons, norms, places, readout_is_the_logits

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.inventory import inventory
from weight_atlas.families.layouts import Selection, extract, place
from weight_atlas.families.pieces import load_piece
from weight_atlas.families.roles import MATRIX_ROLES, Role
from weight_atlas.interventions.quantized_layers import layer_matrices
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.load import load_model
from weight_atlas.live.parts import live_architecture, parts_by_table
from weight_atlas.super_weights.attribution import added_by_mlps
from weight_atlas.super_weights.prompts import Prompts
from weight_atlas.super_weights.recording import record
from weight_atlas.vocabulary.readout import read_readout

# One of each way of storing things; all others are marked slow.
QUICK = {
    "bart", "bert_masked", "codegen", "ctrl", "dbrx", "deepseek_v3", "falcon", "falcon_rw", "gemma3", "gpt2",
    "gpt_bigcode", "gpt_neox", "gpt_oss", "granitemoe", "jamba", "lfm3", "llama", "llama4_text", "llava", "mamba2",
    "minimax", "mixtral", "modernbert", "olmo2", "phi3", "qwen3_next", "rwkv", "t5_gated",
}  # fmt: skip
# Endings of the names of classes that are causal language models.
TEXT_ALONE = ("ForCausalLM", "LMHeadModel", "GenerationDecoder")
# What the probe cannot see, and why.
UNSEEN = {
    "apertus": {"feed-forward"},  # an activation with parameters of its own
    "paligemma": {"W_Q", "W_K"},  # positions begin at 1
    "diffllama": {"W_V", "heads"},  # values are cut in two and repeated before use
    "inkling_text": {"W_K", "W_V", "heads"},  # keys and values pass a convolution before use
    "inkling2_text": {"W_Q", "W_K", "W_V", "heads"},  # the same, with norms on the way
    "deepseek_v4": {"W_Q_b"},  # a norm without parameters for each head
    "jetmoe": {"experts"},  # they take tokens sorted by expert
    "xlnet": {"W_Q", "heads", "W_O out"},  # biases join the queries; the output matrix has no module of its own
}
# Where the residual stream after the last layer is, if not the last layer's output.
STREAM = {
    "xlm": ("outputs", "transformer.layer_norm2.3"),  # its layers are no modules
    "gemma3n_text": ("inputs", "model.norm"),  # several streams, made one before the norm
    "deepseek_v4": ("inputs", "model.norm"),
    "hy_v4": ("inputs", "model.norm"),
    "inkling2_text": ("inputs", "model.norm"),  # a weighted sum of all layers' outputs
}
# What stands between a neuron and the stream, so that its vector is not what it adds.
BETWEEN = {
    **dict.fromkeys(["bart", "openai-gpt", "opt_350m", "xlm", "xlnet"], "a norm of the stream itself"),
    **dict.fromkeys(["gemma3n_text", "deepseek_v4", "hy_v4", "inkling2_text"], "the stream is one of several"),
    "gemma4_text": "a gate of per-layer embeddings",
    "inkling_text": "a convolution along the sequence",
    "rwkv": "a gate",
}


# Where more lies between the stream before the feed-forward part and the one after it.
MORE = {
    **dict.fromkeys(["beam", "doge", "minimax"], "the stream itself is scaled or normalised"),
    **dict.fromkeys(["falcon", "falcon_qkv_bias", "gpt_neox"], "attention runs beside"),
    "jetmoe": "its experts are not recorded: they are called in a way of their own",
}


@dataclass
class Saved:
    """A tiny model as saved and as live."""

    name: str
    wanted: NameList
    model: torch.nn.Module
    checkpoint: Checkpoint
    inventory: pd.DataFrame
    seen: Observation

    @cached_property
    def pieces(self) -> Pieces:
        return Pieces(self.checkpoint, self.inventory, self.model)

    def residual(self, seen: Observation, pieces: Pieces) -> torch.Tensor:
        """The residual stream after the last layer."""
        side, module = STREAM.get(self.name) or ("outputs", last_layer(pieces))
        return getattr(seen, side)[module]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES],
)
def saved(request, tmp_path_factory) -> Iterator[Saved]:
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    folder = tmp_path_factory.mktemp("model")
    wanted = read_list(request.param)
    model = wanted.build()
    model.save_pretrained(folder)
    checkpoint = Checkpoint.from_folder(folder)
    yield Saved(request.param, wanted, model, checkpoint, inventory(checkpoint), observe(model))
    for file in folder.iterdir():
        file.unlink()


def test_inventory_is_as_listed(saved: Saved) -> None:
    assert rows_of(saved.inventory) == saved.wanted.rows


def test_inventory_adds_up(saved: Saved) -> None:
    table = saved.inventory
    own = table[table["tied_to"] == ""]
    assert own["parameters"].sum() == saved.model.num_parameters()
    assert table["id"].is_unique
    assert own.groupby("tensor")["bytes"].sum().to_dict() == {
        name: entry.bytes for name, entry in saved.checkpoint.entries.items() if name in set(own["tensor"])
    }
    for (_, _, _, role), rows in table[table["expert"].notna()].groupby(["stack", "layer", "component", "role"]):
        assert sorted(rows["expert"].unique()) == list(range(rows["expert"].nunique())), role
    for name, row in zip(table["tensor"], table.itertuples(), strict=True):
        numbers = [int(number) for number in re.findall(r"\.(\d+)\.", name)]
        assert pd.isna(row.layer) or row.layer in numbers or name.endswith(f".{row.layer}")


def changed_shapes(saved: Saved) -> list[tuple[str, tuple[int, ...]]]:
    """Every tensor of the model with one size larger by one or halved, and every matrix transposed."""
    others = set(saved.inventory.query("role == 'other'")["tensor"])
    found = []
    for name, entry in saved.checkpoint.entries.items():
        shape = entry.shape if name not in others else ()
        for axis, size in enumerate(shape):
            sizes = [size + 1, *([size // 2] if size % 2 == 0 else [])]
            found += [(name, (*shape[:axis], other, *shape[axis + 1 :])) for other in sizes]
        if len(shape) > 1 and shape[-1] != shape[-2] and min(shape[-2:]) > 1:
            found.append((name, (*shape[:-2], shape[-1], shape[-2])))
    return found


def changed(saved: Saved, entries: dict) -> SimpleNamespace:
    return SimpleNamespace(
        folder=Path("model"), config=saved.checkpoint.config, entries=entries, family=None, read=saved.checkpoint.read
    )


def test_no_tensor_can_have_another_shape(saved: Saved) -> None:
    """Some of all changes of one shape, other ones for each family; rows beyond the vocabulary are stated instead."""
    entries = saved.checkpoint.entries
    for name, shape in random.Random(saved.name).sample(changed_shapes(saved), 6):
        other = changed(saved, {**entries, name: replace(entries[name], shape=shape)})
        try:
            notes = inventory(other).set_index("tensor").loc[[name], "note"]
        except AtlasError:
            continue
        assert notes.str.contains("rows beyond the vocabulary").any(), (name, entries[name].shape, shape)


def test_no_layer_can_be_lost(saved: Saved) -> None:
    layers = saved.inventory[saved.inventory["layer"].notna() & (saved.inventory["stack"] != "other")]
    (stack, layer), lost = random.Random(saved.name).choice(list(layers.groupby(["stack", "layer"])))
    rest = {name: entry for name, entry in saved.checkpoint.entries.items() if name not in set(lost["tensor"])}
    with pytest.raises(AtlasError, match=f"(layers of the {stack} are missing|layer {layer} lacks)"):
        inventory(changed(saved, rest))


def test_pieces_rebuild_what_is_stored(saved: Saved) -> None:
    """load_piece gives the shape that the inventory promises; placing all pieces gives back the stored tensor."""
    stored = saved.inventory[saved.inventory["selection"] != ""]
    for name, pieces in stored.groupby("tensor"):
        whole = saved.checkpoint.read(name)
        rebuilt = torch.full_like(whole, torch.nan)
        for row in pieces.itertuples():
            piece = load_piece(saved.checkpoint, row)
            assert tuple(piece.shape) == ((row.rows,) if pd.isna(row.cols) else (row.rows, row.cols))
            place(rebuilt, Selection.decode(row.selection), piece)
        assert torch.equal(rebuilt, whole), name


def test_embeddings_are_the_live_ones(saved: Saved) -> None:
    for role, live in (("W_E", saved.model.get_input_embeddings()), ("W_U", saved.model.get_output_embeddings())):
        rows = saved.inventory.query("role == @role and component == '' and stack != 'other'")
        if live is None:
            assert rows.empty
            continue
        (row,) = rows.itertuples()
        assert torch.equal(load_piece(saved.checkpoint, row), live.weight.detach())
        tied = live.weight is saved.model.get_input_embeddings().weight and role == "W_U"
        assert (row.tied_to != "") == tied


def test_every_matrix_on_disk_is_found_in_the_live_model(saved: Saved) -> None:
    """The live part of a role, layer, component and expert holds that piece's values, in the parameter's memory."""
    by_place: dict[tuple, list] = {}
    for part in parts_by_table(saved.model, live_architecture(saved.model)):
        by_place.setdefault((part.role, part.component, part.stack, part.layer, part.expert), []).append(part)
    rows = saved.inventory
    rows = rows[rows["role"].isin([*MATRIX_ROLES, "norm"]) & (rows["tied_to"] == "") & (rows["stack"] != "other")]
    assert len(rows)
    for row in rows.itertuples():
        numbers = [None if pd.isna(value) else int(value) for value in (row.layer, row.expert)]
        here = by_place[row.role, row.component, row.stack, *numbers]
        wanted = load_piece(saved.checkpoint, row)
        assert any(_holds(part, wanted) for part in here), row.id


def _holds(part, wanted: torch.Tensor) -> bool:
    found = extract(part.parameter.data, part.selection)
    if found.shape != wanted.shape or not torch.equal(found, wanted):
        return False
    try:
        view = part.view()
    except AtlasError:  # its rows lie among others
        return True
    shared = view.untyped_storage().data_ptr() == part.parameter.untyped_storage().data_ptr()
    return shared and torch.equal(view, wanted)


def test_routers_alone_are_left_out_of_the_layers_matrices(saved: Saved) -> None:
    live = _anatomy(saved)
    if live is None:
        return
    routers = {part.module for part in live.parts if part.role is Role.W_ROUTER}
    names = {name for _, name, _ in layer_matrices(live)}
    assert not routers & names
    wanted = ("W_Q", "W_K", "W_V", "W_O", "W_gate", "W_up", "W_down")
    inside = [p for p in live.parts if p.role in wanted and not p.stacked and p.parameter.ndim == 2]
    inside = [p for p in inside if p.name.startswith(f"{live.layers_path}.") and p.name.endswith(".weight")]
    assert {part.module for part in inside} <= names
    stacked = [p for p in live.projections if p.stacked]
    for projection in stacked:
        for expert in range(projection.n_experts):
            assert f"{projection.name}.{expert}.W_up" in names


def _anatomy(saved: Saved):
    """The live anatomy of a causal language model; None of an encoder, and of what has no feed-forward part."""
    fed = (saved.inventory["role"] == "W_down").any()
    runs = saved.wanted.model_class.endswith(("CausalLM", "LMHeadModel", "ConditionalGeneration"))
    decoder_only = not saved.model.config.is_encoder_decoder
    # XLM keeps attention and feed-forward parts in two lists: there is no module of a layer.
    return anatomy(saved.model) if fed and runs and decoder_only and saved.name != "xlm" else None


def test_loaded_model_holds_every_stored_tensor(saved: Saved, capsys) -> None:
    """What is run has the saved model's class and logits; every tensor, experts included, is found by its values."""
    text = saved.wanted.model_class.endswith(TEXT_ALONE)
    seeing = hasattr(saved.model.config, "vision_config")
    if not (text or seeing):
        with pytest.raises(AtlasError, match="no causal language-model head"):
            load_model(saved.checkpoint, trust_remote_code=False, dtype="auto")
        return
    live = load_model(saved.checkpoint, trust_remote_code=False, dtype="auto")
    total = len(saved.checkpoint.entries)
    assert f"{total} of {total} stored tensors are in the model, {total} compared by value\n" in capsys.readouterr().out
    assert type(live) is type(saved.model)
    asked = saved.model.state_dict()
    assert all(torch.equal(tensor, asked[name]) for name, tensor in live.state_dict().items())
    tokens = torch.arange(LENGTH).reshape(1, -1) + 7
    with torch.no_grad():
        torch.testing.assert_close(live(tokens).logits, saved.model(tokens).logits, rtol=1e-5, atol=1e-5)
    if seeing:
        found = anatomy(live)
        assert len(found.layers) == saved.inventory["layer"].nunique()
        assert "vision" not in found.layers_path


def test_norms_compute_and_stand_as_their_rows_say(saved: Saved) -> None:
    checks = [*norms(saved.pieces, saved.seen, saved.model), *places(saved.pieces, saved.seen)]
    wrong = [what for what, good in checks if not good]
    assert not wrong, wrong


def test_readout_of_the_last_residual_stream_is_the_logits(saved: Saved) -> None:
    """And what a neuron of the last layer adds to that stream is its vector, norms after the MLP included."""
    unembeddings = saved.inventory.query("role == 'W_U' and stack == 'decoder'")
    if unembeddings.empty or saved.name == "modernbert-decoder":
        with pytest.raises(AtlasError, match=r"no unembedding|no linear map"):
            read_readout(saved.checkpoint, saved.inventory)
        return
    pieces, readout = saved.pieces, read_readout(saved.checkpoint, saved.inventory)
    checks = list(readout_is_the_logits(readout, saved.residual(saved.seen, pieces), saved.seen.logits))
    if saved.name not in BETWEEN:
        checks += neurons(pieces, saved.model, readout, saved.seen, lambda seen: saved.residual(seen, pieces))
    wrong = [what for what, good in checks if not good]
    assert not wrong, wrong


def test_live_mlps_add_what_attribution_makes_of_their_outputs(saved: Saved) -> None:
    """Through the norms that follow them and what the model multiplies them by."""
    live = _anatomy(saved)
    if live is None or saved.name in BETWEEN or saved.name in MORE:
        return
    tokens = torch.arange(LENGTH).reshape(1, -1) + 7
    names = [[str(token) for token in tokens[0].tolist()]]
    recording = record(live, Prompts(tokens, torch.ones_like(tokens, dtype=torch.bool), [False], [0], names), tokens=5)
    for layer in range(len(live.layers)):
        norm = live.parts_of(Role.NORM, layer, component="pre_mlp")
        written = [
            (flow, flow.factor[at] * flow.y[at])
            for flow in recording.flows_of(layer)
            for at in (flow.token == 0).nonzero()[:, 0].tolist()
        ]
        if norm and written:
            before, after = first(saved.seen.inputs[norm[0].module]), first(recording.residual[layer + 1])
            assert near(added_by_mlps(live, layer, written), after - before), layer


def test_live_model_computes_with_the_pieces(saved: Saved) -> None:
    """Queries, keys, values, heads, feed-forward parts, experts and mixers, all as the forward pass uses them."""
    pieces, model = saved.pieces, without_inner_norms(saved.model)
    seen, alone = observe(model), observe(model, length=1)
    places = saved.inventory[saved.inventory["layer"].notna() & (saved.inventory["stack"] != "other")]
    unseen = UNSEEN.get(saved.name, set())
    checks: list[tuple[str, bool]] = []
    for (stack, layer, component), _ in places.groupby(["stack", "layer", "component"]):
        for check in (attention, latent_attention, feed_forward, mixer):
            found = check(pieces, seen, alone, int(layer), stack, component)
            checks += [(f"{what}, layer {layer} {component}", good) for what, good in found if what not in unseen]
    found = list(experts(pieces, model, places))
    assert found or places["expert"].isna().all() or "experts" in unseen
    checks += found
    live = _anatomy(saved)
    if live is not None:
        for check in (live_modules(live, seen), live_routers(live, seen), live_experts(live), live_edits(live, seen)):
            checks += [(what, good) for what, good in check if what.split()[1] not in unseen]
    wrong = [what for what, good in checks if not good]
    assert checks and not wrong, wrong
