"""The plan of a model of 800 GB, by the headers of its shards alone: who fetches what, and what that takes."""

import json
import struct

import pytest

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.inventory import inventory
from weight_atlas.streamed.plan import of_part, part_of, requested_again, shared_out, stretches, units

STEPS = ["attention_kernel", "super_weight_screening"]
GB = 1e9


def headers_of(folder, shapes, config, shard_bytes=5e9):
    """Sparse shards of bfloat16 tensors with nothing but headers, filled one after the other as transformers does."""
    shards, size = [{}], 0
    for name, shape in shapes:
        count = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        if size + count > shard_bytes and shards[-1]:
            shards, size = [*shards, {}], 0
        shards[-1][name], size = (shape, count), size + count
    for number, shard in enumerate(shards):
        header, at = {}, 0
        for name in sorted(shard):
            shape, count = shard[name]
            header[name], at = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + count]}, at + count
        text = json.dumps(header).encode()
        with (folder / f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + at)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model of the shapes of Llama 3.1 405B: checkpoint, inventory and sizes of its shards."""
    d, ff, layers, kv, words = 16384, 53248, 126, 1024, 128256
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": d, "intermediate_size": ff,
        "num_hidden_layers": layers, "num_attention_heads": 128, "num_key_value_heads": 8, "vocab_size": words,
        "tie_word_embeddings": False,
    }  # fmt: skip
    inside = {
        "self_attn.q_proj": [d, d], "self_attn.k_proj": [kv, d], "self_attn.v_proj": [kv, d],
        "self_attn.o_proj": [d, d], "mlp.gate_proj": [ff, d], "mlp.up_proj": [ff, d], "mlp.down_proj": [d, ff],
        "input_layernorm": [d], "post_attention_layernorm": [d],
    }  # fmt: skip
    blocks = [(f"model.layers.{n}.{name}.weight", shape) for n in range(layers) for name, shape in inside.items()]
    ends = [("model.norm.weight", [d]), ("lm_head.weight", [words, d])]
    folder = tmp_path_factory.mktemp("large")
    headers_of(folder, [("model.embed_tokens.weight", [words, d]), *blocks, *ends], config)
    checkpoint = Checkpoint.from_folder(folder)
    return checkpoint, inventory(checkpoint), {path.name: path.stat().st_size for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize(("count", "most"), [(1, 1.0), (4, 1.01), (32, 1.1)])
def test_ten_gb_of_disk_and_a_tenth_more_traffic_are_enough_for_800(large, count, most):
    checkpoint, tensors, sizes = large
    every = stretches(checkpoint, sizes, 5 * GB)
    total, shares = sum(sizes.values()), shared_out(every, count)
    assert total > 800 * GB and all(each.whole for each in every)
    work = units(tensors, checkpoint, STEPS, fold_norm=True)
    assert requested_again(work, shares) <= (most - 1) * total
    bytes_of = {(each.shard, each.offset): each.bytes for each in checkpoint.stored.entries.values()}
    assert max(disk(share, of_part(work, shares, number), bytes_of) for number, share in enumerate(shares)) <= 10 * GB
    loads = [sum(each.bytes for each in share) for share in shares]
    assert max(loads) <= total / count + 5 * GB


def disk(share, own, bytes_of):
    """The most bytes that lie there at once: a shard, what waits of those before, and what is requested for it."""
    at = {place: number for number, each in enumerate(share) for place in each.places}
    due = [(max(at.get(place, 0) for place in unit.places), unit.places.keys()) for unit in own]
    here, most = set(), 0
    for number, each in enumerate(share):
        asked = {place for turn, places in due if turn == number for place in places} - here - each.places
        most = max(most, each.bytes + sum(bytes_of[place] for place in here | asked))
        here = (here | each.places) & {place for turn, places in due if turn > number for place in places}
    return most


def test_each_unit_is_of_one_part(large):
    checkpoint, tensors, sizes = large
    shares = shared_out(stretches(checkpoint, sizes, 5 * GB), 16)
    work = units(tensors, checkpoint, STEPS, fold_norm=False)
    parts = [of_part(work, shares, number) for number in range(16)]
    assert sorted((unit.kind, unit.what) for part in parts for unit in part) == sorted((u.kind, u.what) for u in work)
    assert {kind: sum(unit.kind == kind for unit in work) for kind in ("attention", "projection")} == {
        "attention": 126,
        "projection": 126,
    }


def test_large_shards_in_stretches_hold_each_tensor_once(large):
    checkpoint, _, sizes = large
    every = stretches(checkpoint, sizes, 1 * GB)
    places = [place for each in every for place in each.places]
    assert len(places) == len(set(places)) == len(checkpoint.stored.entries)
    assert all(each.bytes <= 1 * GB or len(each.places) == 1 for each in every if not each.whole)


def test_parts_by_their_names():
    assert part_of("2-of-7") == (1, 7)
    with pytest.raises(AtlasError, match="no part of a model"):
        part_of("8-of-7")
