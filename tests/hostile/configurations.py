"""Configurations at odds with themselves or with the tensors: of models, of quantizations, of adapters."""

import json
from collections.abc import Iterator

from hostile.lies import DEEP, LONG, NO_OBJECTS, Case, safetensors, taken_apart
from hostile.valid import VALID
from hostile.valid_models import BLOCK, CONFIG, SHAPES, as_json

NO_NAMES = (5, "x", {"a": 1}, [5], [["x"]], [None], True)


def configurations() -> Iterator[Case]:
    """config.json at odds with itself or with the tensors."""
    model = VALID["safetensors_model"]()

    def case(what: str, content: bytes) -> Case:
        return f"config.json: {what}", "safetensors_model", model | {"config.json": content}

    for what, content in (
        ("nothing", b""),
        ("a list", b"[]"),
        ("null", b"null"),
        ("a text", b'"x"'),
        ("no UTF-8", b"\xff"),
        ("nested", DEEP),
        ("a deep value", as_json(CONFIG)[:-1] + b',"x":' + DEEP + b"}"),
        ("cut", as_json(CONFIG)[:-20]),
        ("5000 digits", b'{"a":%s}' % LONG.encode()),
        ("empty", b"{}"),
        ("HTML", b"<html></html>"),
    ):
        yield case(what, content)
    numbers: tuple = (0, -4, 4.5, "128", True, float("nan"), 1e30, 10**12, [4], {"a": 4})
    for key in ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size"):
        for value in numbers:
            yield case(f"{key} {value!r}", as_json(CONFIG | {key: value}))
    for key, values in (("head_dim", (3, -4, 10**12, "4")), ("vocab_size", (10**12, -1, "16"))):
        for value in values:
            yield case(f"{key} {value!r}", as_json(CONFIG | {key: value}))
    for value in NO_NAMES:
        yield case(f"architectures {value!r}", as_json(CONFIG | {"architectures": value}))
    for value in (5, [], ["llama"], {}, True):
        yield case(f"model_type {value!r}", as_json(CONFIG | {"model_type": value}))
    for key in ("text_config", "quantization_config", "auto_map"):
        for value in ("x", 5, [1], True):
            yield case(f"{key} {value!r}", as_json(CONFIG | {key: value}))
    for name in ("Strange", "os.system", "../../llama", "\x1b[31m", "x" * 5000):
        kind = {"architectures": [name], "model_type": name}
        yield case(f"a model called {name[:20]!a}", as_json(CONFIG | kind))


def quantizations() -> Iterator[Case]:
    """Packed tensors and settings that do not belong together."""
    for kind in ("fp8_model", "gptq_model", "nf4_model", "compressed_model"):
        model = VALID[kind]()
        content = model["model.safetensors"]
        header, data = taken_apart(content)
        parts = [name for name in header if name not in SHAPES and name != "__metadata__"]
        parts += [name for name in header if header[name].get("dtype") in ("U8", "F8_E4M3") and name not in parts]
        for part in parts:
            other = {f"elsewhere.{key}" if key == part else key: value for key, value in header.items()}
            yield f"{kind}: {part} elsewhere", kind, model | {"model.safetensors": safetensors(other, data)}
    for kind, part, dtype in (
        ("gptq_model", f"{BLOCK}.self_attn.q_proj.g_idx", "I8"),
        ("nf4_model", f"{BLOCK}.mlp.up_proj.weight.quant_map", "I8"),
    ):
        model = VALID[kind]()
        content = model["model.safetensors"]
        header, data = taken_apart(content)
        begin, end = header[part]["data_offsets"]
        made = safetensors(header | {part: header[part] | {"dtype": dtype, "shape": [1, end - begin]}}, data)
        yield f"{kind}: {part} in a row", kind, model | {"model.safetensors": made}
    model = VALID["compressed_model"]()
    config = json.loads(model["config.json"])
    for groups in (
        5,
        "x",
        {"a": []},
        {"a": {"weights": 5}},
        {"a": {"weights": {"num_bits": "x"}}},
        {"a": {"weights": {"num_bits": 10**30}}},
    ):
        settings = config["quantization_config"] | {"config_groups": groups}
        changed = as_json(config | {"quantization_config": settings})
        yield f"compressed_model: config_groups {groups!r}", "compressed_model", model | {"config.json": changed}


def adapters() -> Iterator[Case]:
    model = VALID["adapter"]()
    config = json.loads(model["adapter_config.json"])
    for key, values in (
        ("peft_type", (5, -1, [], [1], {"q_proj": "x"})),
        ("r", ("x", [], [1], {"a": 1})),
        ("lora_alpha", ("x", [], [1], {"a": 1})),
        ("rank_pattern", (5, "x", [1], {"q_proj": "x"}, {"(": 1})),
        ("alpha_pattern", (5, "x", [1], {"q_proj": "x"}, {"(": 1})),
    ):
        for value in values:
            yield (
                f"adapter: {key} {value!r}",
                "adapter",
                model | {"adapter_config.json": as_json(config | {key: value})},
            )
    for what, content in (("nothing", b""), ("a list", b"[]"), ("nested", DEEP), ("no UTF-8", b"\xff")):
        yield f"adapter: configuration is {what}", "adapter", model | {"adapter_config.json": content}
    for name in ("base_model.model.x.lora_A.weight", "lora_A.weight", ".lora_A.weight", "base_model.model..lora_B."):
        yield (
            f"adapter: tensor {name}",
            "adapter",
            model
            | {
                "adapter_model.safetensors": safetensors(
                    {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"abcd"
                )
            },
        )


def live() -> Iterator[Case]:
    """What only the library that runs models reads."""
    files = VALID["live_model"]()
    config = json.loads(files["config.json"])
    for key, values in (
        ("hidden_act", ("__class__", "os.system", 5, None)),
        ("rope_scaling", (5, "x", {"rope_type": "x"}, {"type": "linear"})),
        ("layer_types", (5, ["x"])),
        ("rms_norm_eps", ("x", None)),
    ):
        for value in values:
            yield f"live: {key} {value!r}", "live_model", files | {"config.json": as_json(config | {key: value})}
    for what, content in NO_OBJECTS:
        yield f"live: generation_config.json is {what}", "live_model", files | {"generation_config.json": content}
