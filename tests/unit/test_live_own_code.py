"""Models whose Python code comes with them: run where it is trusted, by every step, and refused everywhere else."""

import ast
import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from live_models import tiny, word_tokenizer

from weight_atlas.ablations.encoder import encoder
from weight_atlas.artifacts import read_table, write_json
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.errors import AtlasError
from weight_atlas.live.load import load_model, open_live
from weight_atlas.settings.models import CheckpointSpec, OwnCode
from weight_atlas.settings.tasks import Task
from weight_atlas.tokens.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[2]
CONFIGURATION = """
from transformers import LlamaConfig

class OwnConfig(LlamaConfig):
    model_type = "own_llama"
"""
MODELING = """
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    tiny("llama").save_pretrained(folder)
    word_tokenizer(bos=True).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    config |= {"model_type": "own_llama", "architectures": ["OwnForCausalLM"], "auto_map": code}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELING)
    write_json(folder / "manifest.json", make_manifest(CheckpointSpec(source=str(folder))))
    return folder


def test_it_is_run_and_compared_where_it_is_trusted(folder, capsys):
    live = load_model(Checkpoint.from_folder(folder), trust_remote_code=True, dtype="auto")
    ids = torch.arange(5, 15)[None]
    assert type(live).__name__ == "OwnForCausalLM"
    assert torch.equal(live(ids).logits, tiny("llama")(ids).logits)
    assert "39 of 39 stored tensors are in the model, 39 compared by value" in capsys.readouterr().out


def test_it_is_not_run_where_it_is_not_trusted(folder, tmp_path):
    """Of a model whose configuration transformers knows, its own class is taken."""
    copy, mark = tmp_path / "own", tmp_path / "ran"
    shutil.copytree(folder, copy)
    for path in copy.glob("*_own.py"):
        path.write_text(f"{path.read_text()}\nopen({str(mark)!r}, 'w').close()\n")
    checkpoint = Checkpoint.from_folder(copy)
    with pytest.raises(AtlasError) as refused:
        load_model(checkpoint, trust_remote_code=False, dtype="auto")
    assert "trust_remote_code: true" in refused.value.remedy
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    known = load_model(Checkpoint.from_folder(copy), trust_remote_code=False, dtype="auto")
    assert type(known).__name__ == "LlamaForCausalLM" and not mark.exists()
    load_model(checkpoint, trust_remote_code=True, dtype="auto")
    assert mark.exists()


def test_requests_of_a_task_are_made_where_it_is_trusted(folder, tmp_path):
    items = {"data_files": {"test": str(tmp_path / "items.jsonl")}}
    definition = {
        "task": "own", "dataset_path": "json", "dataset_kwargs": items,
        "test_split": "test", "output_type": "loglikelihood", "doc_to_text": "{{text}}", "doc_to_target": "{{target}}",
        "metric_list": [{"metric": "acc"}],
    }  # fmt: skip
    (tmp_path / "own.yaml").write_text(json.dumps(definition))
    (tmp_path / "items.jsonl").write_text('{"text": "one two", "target": " three"}\n')
    make = runpy.run_path(str(ROOT / "scripts/task_requests.py"))["main"]
    given = {"definition": tmp_path / "own.yaml", "data": tmp_path / "items.jsonl", "task": "own"}
    given |= {"requests": tmp_path / "requests.parquet", "description": tmp_path / "description.json"}
    given |= {"settings": Task()}
    make(folder / "manifest.json", **given, own=OwnCode(trust_remote_code=True))
    assert [list(ids) for ids in read_table(tmp_path / "requests.parquet")["context_ids"]] == [[1, 5, 6]]
    with pytest.raises(AtlasError, match="trust_remote_code: true"):
        make(folder / "manifest.json", **given, own=OwnCode())


def test_leaving_out_whether_it_is_trusted_is_an_error(folder):
    checkpoint = Checkpoint.from_folder(folder)
    for read in (load_model, encoder, load_tokenizer):
        with pytest.raises(TypeError, match="trust_remote_code"):
            read(checkpoint, None) if read is encoder else read(checkpoint)
    with pytest.raises(TypeError, match="running"):
        open_live(folder / "manifest.json")


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_every_step_that_opens_a_model_hands_the_setting_on(path):
    """Whole, as settings.models.Live, or as the one of settings.models.OwnCode."""
    tree = ast.parse(path.read_text())
    calls = {node: getattr(node.func, "id", None) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    whole = [call for call, name in calls.items() if name in {"open_live", "open_ablation"}]
    readers = {"load_model", "load_tokenizer", "tokenizer_and_source", "encoder", "read_vocabulary"}
    apart = [call for call, name in calls.items() if name in readers]
    handed = {each.arg: ast.unparse(each.annotation) for each in main_of(tree).args.kwonlyargs if each.annotation}
    # A step of two models is given the setting of each.
    assert not whole or handed.get("running") == "Live" or handed["own_code"] == "list[bool]"
    assert not apart or handed.get("own") == "OwnCode" or handed.get("running") == "Live"
    for call in whole:
        assert "running" in map(ast.unparse, call.args), ast.unparse(call)
    for call in apart:
        given = {each.arg: ast.unparse(each.value) for each in call.keywords}
        assert given.get("trust_remote_code") in OWN_CODE or given.get(None) == "own_code"


OWN_CODE = {f"{settings}.trust_remote_code" for settings in ("own", "running")}


def main_of(tree):
    return next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
