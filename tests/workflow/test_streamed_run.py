"""A streamed model through the workflow: the products of a local copy, and reasons where weights are needed again."""

import sys
from pathlib import Path

import pytest
from in_process import run
from project import digests

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from streamed_models import SOURCE, demo_files, hub_of

pytestmark = pytest.mark.slow

ANALYSES = [
    "weight_statistics", "weight_profile", "quantization_sensitivity", "sparsity", "effective_rank", "attention_head",
    "super_weight_screening",
]  # fmt: skip
AGAIN = ["super_weights", "untrained_rows"]


def test_the_pages_of_a_streamed_model(tmp_path, monkeypatch):
    files = demo_files(6)
    whole = sum(len(body) for body in files.values())
    (tmp_path / "model").mkdir()
    for name, body in files.items():
        (tmp_path / "model" / name).write_bytes(body)
    folders = {"local": str(tmp_path / "model"), "streamed": SOURCE}
    found = {}
    with hub_of(files, monkeypatch, tmp_path / "hub") as hub:
        for kind, source in folders.items():
            (tmp_path / kind).mkdir()
            more = {"stream": True, "revision": "main"} if kind == "streamed" else {}
            config = {
                "models": {"m": {"source": source, "analyses": [*ANALYSES, *AGAIN], **more}},
                "stream_part": {"parts": 3},
                "quantization_sensitivity": {"schemes": ["int8/tensor", "int4/group:32"], "drawn": ["int8/tensor"]},
            }
            targets = tuple(f"results/{name}/m.csv" for name in AGAIN) if kind == "streamed" else ()
            ends = [f"results/{name}/m.csv" for name in ANALYSES]
            assert run(tmp_path / kind, config, (*ends, *targets)) == {}
            found[kind] = digests(tmp_path / kind / "results")
        assert hub.sent <= 1.1 * whole
    apart = {name for name, digest in found["local"].items() if found["streamed"].get(name) != digest}
    assert {name.split("/")[0] for name in apart} == {"checkpoints", "singular_values_part"}
    for name in AGAIN:
        assert "the model is streamed" in (tmp_path / f"streamed/results/{name}/m.csv").read_text()
