"""Recipes as the tools read them, each in the syntax that its documentation gives."""

import json
import re
from collections.abc import Sequence

import yaml

from weight_atlas.errors import AtlasError
from weight_atlas.quantization.recipes.types import SIXTEEN
from weight_atlas.quantization.recipes.units import Unit

Choice = tuple[Unit, str]
# Presets of compressed-tensors, in its own words.
_PRESETS = {
    "W4A16": {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128},
    "NVFP4A16": {
        "num_bits": 4, "type": "float", "symmetric": True, "strategy": "tensor_group", "group_size": 16,
        "scale_dtype": "torch.float8_e4m3fn", "zp_dtype": "torch.float8_e4m3fn",
    },
    "W8A16": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
}  # fmt: skip
_TORCHAO = {
    "int4, group 128": {"_type": "Int4WeightOnlyConfig", "_version": 2, "_data": {"group_size": 128}},
    "int4, group 32": {"_type": "Int4WeightOnlyConfig", "_version": 2, "_data": {"group_size": 32}},
    "int8": {"_type": "Int8WeightOnlyConfig", "_version": 2, "_data": {}},
}


def files(tool: str, chosen: Sequence[Choice], head: str) -> dict[str, str]:
    """Names and contents of the files of a recipe. head: the module of the unembedding."""
    match tool:
        case "llama.cpp":
            return {"tensor_types.txt": _tensor_types(chosen), "README.md": _LLAMA_CPP}
        case "llm-compressor":
            return {"recipe.yaml": _llm_compressor(chosen, head)}
        case "bitsandbytes":
            return {"quantization_config.json": _json(_bitsandbytes(chosen, head))}
        case "torchao":
            return {"quantization_config.json": _json(_torchao(chosen), sort_keys=False)}
        case "gptqmodel":
            return {"quantize_config.json": _json(_gptqmodel(chosen), sort_keys=False)}
    raise AtlasError(f"no files of {tool}")


_LLAMA_CPP = """    llama-quantize --tensor-type-file tensor_types.txt MODEL-f16.gguf MODEL.gguf Q4_K

Every tensor has a pattern of its own, so that it does not matter whether the first or the last match wins. With the
importance matrix of the model add `--imatrix`.
"""


def _tensor_types(chosen: Sequence[Choice]) -> str:
    """Pattern=type, a line a tensor: ECMAScript, searched for in the tensor's name."""
    return "".join(f"^{_escaped(name)}$={kind}\n" for unit, kind in chosen for name in unit.names)


def _escaped(name: str) -> str:
    """A name as a regular expression of any dialect."""
    return re.sub(r"([^A-Za-z0-9_-])", r"\\\1", name)


def _anywhere(name: str) -> str:
    """A module, also where the model that the tool loads has it below another name (h.0 in transformer.h.0)."""
    return rf"^(.*\.)?{_escaped(name)}$"


def _names(chosen: Sequence[Choice], kind: str) -> list[str]:
    return [name for unit, chosen_kind in chosen if chosen_kind == kind for name in unit.names]


def _llm_compressor(chosen: Sequence[Choice], head: str) -> str:
    groups = {
        kind: {"targets": [f"re:{_anywhere(name)}" for name in names], "weights": dict(weights)}
        for kind, weights in _PRESETS.items()
        if (names := _names(chosen, kind))
    }
    quantized = {name for unit, kind in chosen if kind != SIXTEEN for name in unit.names}
    ignored = [f"re:{_anywhere(name)}" for name in _names(chosen, SIXTEEN)]
    # Of the modifier's own default nothing is left once a list is given.
    ignored += [] if head in quantized or head in _names(chosen, SIXTEEN) else [f"re:{_anywhere(head)}"]
    modifier = {"QuantizationModifier": {"config_groups": groups, "ignore": ignored}}
    return yaml.safe_dump({"quant_stage": {"quant_modifiers": modifier}}, sort_keys=False, width=1000)


def _bitsandbytes(chosen: Sequence[Choice], head: str) -> dict:
    kinds = {kind for _, kind in chosen} - {SIXTEEN}
    skipped = _names(chosen, SIXTEEN)
    listed = {name for unit, _ in chosen for name in unit.names}
    # The default list, which holds the head, is lost once one is given.
    skipped += [head] if head not in listed else []
    shared = {"quant_method": "bitsandbytes", "llm_int8_skip_modules": skipped}
    if kinds == {"int8"}:
        return {**shared, "load_in_8bit": True, "load_in_4bit": False}
    return {
        **shared,
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": False,
        "bnb_4bit_compute_dtype": "bfloat16",
    }


def _torchao(chosen: Sequence[Choice]) -> dict:
    """In order: a module's own pattern; `_default` last, which leaves all others alone."""
    by_name = {
        f"re:{_anywhere(name)[1:-1]}": _TORCHAO.get(kind)
        for unit, kind in chosen
        for name in unit.names
    } | {"_default": None}  # fmt: skip
    config = {"_type": "FqnToConfig", "_version": 1, "_data": {"fqn_to_config": by_name}}
    return {"quant_method": "torchao", "quant_type": {"default": config}}


def _gptqmodel(chosen: Sequence[Choice]) -> dict:
    """The most common number of bits for all, and what differs under `dynamic`: +: other bits, -: not quantized."""
    weights = {kind: len(_names(chosen, kind)) for _, kind in chosen if kind != SIXTEEN}
    base = max(weights, key=lambda kind: weights[kind]) if weights else "4 bit"
    dynamic: dict[str, dict] = {}
    for unit, kind in chosen:
        for name in unit.names:
            if kind == SIXTEEN:
                dynamic[f"-:{_anywhere(name)}"] = {}
            elif kind != base:
                dynamic[f"+:{_anywhere(name)}"] = {"bits": _bits(kind), "group_size": 128}
    return {
        "quant_method": "gptq",
        "bits": _bits(base),
        "group_size": 128,
        "sym": True,
        "desc_act": False,
        "lm_head": False,
        "dynamic": dynamic,
    }


def _bits(kind: str) -> int:
    return int(kind.split()[0])


def _json(content: dict, *, sort_keys: bool = True) -> str:
    return json.dumps(content, indent=2, sort_keys=sort_keys, ensure_ascii=False) + "\n"
