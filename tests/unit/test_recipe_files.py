"""Files of recipes, against what tools read."""

import json
import re

import gguf
import numpy as np
import pandas as pd
import yaml

from weight_atlas.quantization.recipes.files import files
from weight_atlas.quantization.recipes.gguf_names import gguf_names
from weight_atlas.quantization.recipes.imatrix import write_imatrix
from weight_atlas.quantization.recipes.types import TYPES
from weight_atlas.quantization.recipes.units import Unit

CHOSEN = [
    (Unit("a", ("model.layers.1.q", "model.layers.1.k"), ("x", "y")), 0),
    (Unit("b", ("model.layers.11.q",), ("z",)), 1),
    (Unit("c", ("model.layers.2.down",), ("w",)), -1),
]


def written(tool, head="lm_head"):
    return files(tool, [(unit, TYPES[tool][kind].name) for unit, kind in CHOSEN], head)


def test_llama_cpp_reads_one_pattern_for_each_tensor():
    lines = written("llama.cpp")["tensor_types.txt"].split()  # as its parser does, by white space
    pairs = [line.split("=") for line in lines]
    names = [name for unit, _ in CHOSEN for name in unit.names]
    kinds = {each.name.upper() for each in gguf.GGMLQuantizationType}
    assert all(kind.upper() in kinds for _, kind in pairs)
    assert [[bool(re.search(pattern, name)) for name in names] for pattern, _ in pairs] == np.eye(4).astype(
        bool
    ).tolist()
    assert all(pattern == pattern.lower() for pattern, _ in pairs)


def test_bitsandbytes_reads_its_configuration_and_the_head_stays():
    from transformers import BitsAndBytesConfig

    content = json.loads(written("bitsandbytes")["quantization_config.json"])
    known = BitsAndBytesConfig.from_dict(content)
    assert known.load_in_4bit
    assert known.llm_int8_skip_modules == ["model.layers.2.down", "lm_head"]


def test_llm_compressor_ignores_what_stays_and_the_head():
    content = yaml.safe_load(written("llm-compressor")["recipe.yaml"])
    modifier = content["quant_stage"]["quant_modifiers"]["QuantizationModifier"]
    targets = modifier["config_groups"]["W4A16"]["targets"]
    assert [bool(re.match(each.removeprefix("re:"), "model.layers.1.q")) for each in targets] == [True, False]
    assert re.match(modifier["ignore"][-1].removeprefix("re:"), "lm_head")
    assert re.match(modifier["ignore"][0].removeprefix("re:"), "transformer.model.layers.2.down")


def test_torchao_and_gptqmodel_match_each_module_once():
    order = json.loads(written("torchao")["quantization_config.json"])["quant_type"]["default"]["_data"][
        "fqn_to_config"
    ]
    assert list(order)[-1] == "_default"
    assert order["_default"] is None
    names = [f"base.{unit.names[0]}" for unit, _ in CHOSEN]
    first = [next(key for key in order if re.fullmatch(key.removeprefix("re:"), name)) for name in names]
    assert len(set(first)) == 3
    config = json.loads(written("gptqmodel")["quantize_config.json"])
    assert (config["bits"], config["lm_head"]) == (2, False)
    rules = {key: value for key, value in config["dynamic"].items() if re.match(key[2:], "model.layers.11.q")}
    assert rules == {"+:^(.*\\.)?model\\.layers\\.11\\.q$": {"bits": 3, "group_size": 128}}
    assert [key[:2] for key in config["dynamic"]] == ["+:", "-:"]


def test_an_importance_matrix_is_read_by_gguf(tmp_path):
    moments = pd.DataFrame(
        {
            "tensor": ["model.layers.0.self_attn.q_proj.weight", "model.unknown.weight"],
            "tokens": [10, 10],
            "moments": [[1.0, 2.5], [0.0, 0.0]],
        }
    )
    names = gguf_names({"model_type": "llama"}, 1)
    for file in ("a.gguf", "b.gguf"):
        assert write_imatrix(tmp_path / file, moments, names, corpus="text", window=4, windows=3) == 1
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    assert tensors["blk.0.attn_q.weight.in_sum2"].ravel().tolist() == [10, 25]
    assert tensors["blk.0.attn_q.weight.counts"].ravel().tolist() == [10]
    assert reader.get_field("imatrix.chunk_count").contents() == 3
    assert reader.get_field("general.type").contents() == "imatrix"
