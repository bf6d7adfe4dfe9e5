"""Every family: a tiny model made by transformers and saved; its inventory; and what the live model computes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pytest
import torch
import transformers
from forward_checks import attention, experts, feed_forward, latent_attention, mixer
from forward_truth import Pieces, observe, without_inner_norms
from name_list import NAMES, NameList, read_list, rows_of

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.families import inventory, load_piece
from weight_atlas.families.layouts import Selection, place

# One of each way of storing things; all others are marked slow.
QUICK = {
    "bart", "bert_masked", "codegen", "dbrx", "deepseek_v3", "falcon", "falcon_rw", "gemma3", "gpt2", "gpt_bigcode",
    "gpt_neox", "gpt_oss", "granitemoe", "jamba", "llama", "llama4_text", "mamba2", "minimax", "mixtral", "modernbert",
    "olmo2", "phi3", "qwen3_next", "rwkv", "t5_gated",
}  # fmt: skip
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


@dataclass
class Saved:
    """A tiny model as saved and as live."""

    name: str
    wanted: NameList
    model: torch.nn.Module
    checkpoint: Checkpoint
    inventory: pd.DataFrame


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
    yield Saved(request.param, wanted, model, checkpoint, inventory(checkpoint))
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


def test_live_model_computes_with_the_pieces(saved: Saved) -> None:
    """Queries, keys, values, heads, feed-forward parts, experts and mixers, all as the forward pass uses them."""
    pieces = Pieces(saved.checkpoint, saved.inventory, saved.model)
    model = without_inner_norms(saved.model)
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
    wrong = [what for what, good in checks if not good]
    assert checks and not wrong, wrong
