"""The served atlas: elements are those of the file, nothing else of the disk is given away, nobody else may ask."""

import base64
import http.client
import json
import threading
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from weight_atlas.artifacts import write_json, write_table, write_text
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.command import look
from weight_atlas.command.elements import MOST
from weight_atlas.command.serve import server
from weight_atlas.errors import AtlasError
from weight_atlas.families.inventory import inventory
from weight_atlas.settings.models import CheckpointSpec

DEMO = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of results of two models, the demo and a GPT-2 with fused matrices, and the tensors of the second."""
    folder = tmp_path_factory.mktemp("served")
    sizes = {"n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 12, "n_positions": 6}
    write_json(folder / "gpt2/config.json", {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **sizes})
    shapes = {
        "wte.weight": (12, 8), "wpe.weight": (6, 8), "h.0.attn.c_attn.weight": (8, 24), "h.0.attn.c_attn.bias": (24,),
        "h.0.attn.c_proj.weight": (8, 8), "h.0.attn.c_proj.bias": (8,), "h.0.mlp.c_fc.weight": (8, 32),
        "h.0.mlp.c_fc.bias": (32,), "h.0.mlp.c_proj.weight": (32, 8), "h.0.mlp.c_proj.bias": (8,),
        **{f"{name}.{part}": (8,) for name in ("h.0.ln_1", "h.0.ln_2", "ln_f") for part in ("weight", "bias")},
    }  # fmt: skip
    numbers = torch.Generator().manual_seed(0)
    fused = {name: torch.randn(shape, generator=numbers) for name, shape in shapes.items()}
    save_file(fused, folder / "gpt2/model.safetensors")
    for name, source in (("demo", "bundled:demo"), ("gpt2", str(folder / "gpt2"))):
        manifest = folder / f"results/checkpoints/{name}.json"
        write_json(manifest, make_manifest(CheckpointSpec(source=source)))
        write_table(folder / f"results/tensor_inventory/{name}.parquet", inventory(open_checkpoint(manifest)))
    write_text(folder / "results/atlas/index.html", "<!DOCTYPE html><title>x</title>")
    (folder / "results/atlas/leak").symlink_to(folder / "gpt2")
    return folder / "results", fused


@pytest.fixture
def ask(weights):
    """ask(path, host) -> (status, headers, body), of a server that runs."""
    with server(weights[0]) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        port = made.server_address[1]

        def ask(path, host=None, method="GET"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

        yield ask
        made.shutdown()


def window(ask, model, name, row, column, rows, columns):
    query = {"model": model, "id": name, "row": row, "column": column, "rows": rows, "columns": columns}
    status, _, body = ask(f"/elements?{urlencode(query)}")
    assert status == 200, body
    part = json.loads(body)
    values = np.frombuffer(base64.b64decode(part["values"]), dtype="<f4").reshape(part["rows"], part["columns"])
    return part, values


def test_elements_are_those_of_the_file_in_the_logical_orientation(ask, weights):
    results, fused = weights
    stored = open_checkpoint(results / "checkpoints/demo.json").read(DEMO).float().numpy()
    part, values = window(ask, "demo", DEMO, 100, 370, 64, 64)
    assert part["shape"] == list(stored.shape) == [128, 384]
    np.testing.assert_array_equal(values, stored[100:128, 370:384])
    part, values = window(ask, "gpt2", "h.0.mlp.c_fc.weight", 3, 2, 4, 5)
    np.testing.assert_array_equal(values, fused["h.0.mlp.c_fc.weight"].T[3:7, 2:7])
    tensors = inventory(open_checkpoint(results / "checkpoints/gpt2.json"))
    (keys,) = tensors["id"][tensors["role"] == "W_K"]
    part, values = window(ask, "gpt2", keys, 1, 0, 3, 8)
    np.testing.assert_array_equal(values, fused["h.0.attn.c_attn.weight"].T[9:12])


@pytest.mark.parametrize(
    "query",
    [
        {}, {"model": "demo", "id": "no such", "row": 0, "column": 0, "rows": 1, "columns": 1},
        {"model": "../demo", "id": DEMO, "row": 0, "column": 0, "rows": 1, "columns": 1},
        {"model": "demo", "id": "model.norm.weight", "row": 0, "column": 0, "rows": 1, "columns": 1},
        {"model": "demo", "id": DEMO, "row": -1, "column": 0, "rows": 1, "columns": 1},
        {"model": "demo", "id": DEMO, "row": 0, "column": 0, "rows": MOST + 1, "columns": 1},
        {"model": "demo", "id": DEMO, "row": "x", "column": 0, "rows": 1, "columns": 1},
    ],
)  # fmt: skip
def test_what_is_no_window_is_refused_in_a_line(ask, query):
    status, _, body = ask(f"/elements?{urlencode(query)}")
    assert status in (400, 404) and list(json.loads(body)) == ["error"]


def test_only_files_of_the_atlas_are_given_to_pages_of_this_address(ask):
    status, headers, _ = ask("/index.html")
    assert status == 200 and "SameSite=Strict" in headers["Set-Cookie"] and headers["Cache-Control"] == "no-store"
    for path in ("/../checkpoints/demo.json", "/%2e%2e/checkpoints/demo.json", "/leak/model.safetensors", "/models/"):
        assert ask(path)[0] == 404, path
    for host in ("evil.example", "evil.example:80", ""):
        assert ask("/index.html", host or "x")[0] == 403
    assert ask("/index.html", method="HEAD")[0] == 405 and ask("/index.html", method="POST")[0] == 501


def test_without_a_page_the_command_says_so(tmp_path):
    with pytest.raises(AtlasError, match="there is no page yet"):
        look.open_page(directory=tmp_path, serve=True)
