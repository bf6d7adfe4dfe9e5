"""Bad safetensors files and indexes of shards."""

import json
import struct
from collections.abc import Iterator

from hostile.lies import DEEP, LONG, Case, safetensors, taken_apart
from hostile.valid import VALID
from hostile.valid_models import BLOCK, as_json

ESCAPES = ("\x1b[31mred", "a\rb", "\u202egnp.evil", "a\x00b", "\ud800", "a\u2028b", "\x9b31m")
OUTSIDE = (
    "../model.safetensors",
    "/etc/passwd",
    "a/../../b.safetensors",
    "..",
    ".",
    "",
    "sub/a.safetensors",
    "..\\..\\b.safetensors",
    "x" * 5000,
    "a\x00b",
    "~/.ssh/id_rsa",
    "\ud800.safetensors",
    "//host/share",
)


def safetensors_headers() -> Iterator[Case]:
    model = VALID["safetensors_model"]()
    content = model["model.safetensors"]
    header, data = taken_apart(content)
    length = len(content) - len(data) - 8
    name = f"{BLOCK}.mlp.up_proj.weight"
    good = header[name]

    def case(what: str, content: bytes) -> Case:
        return f"safetensors: {what}", "safetensors_model", model | {"model.safetensors": content}

    for claim in (100 << 30, 2**63, 2**64 - 1, 99_999_999, length + len(data) + 1, 0, 1, length - 1):
        yield case(f"a header of {claim} bytes", struct.pack("<Q", claim) + content[8:])
    for size in (0, 1, 7, 8, 9, 8 + length // 2, 8 + length, 8 + length + 1, len(content) - 1):
        yield case(f"cut to {size} bytes", content[:size])
    for what, text in (
        ("a list", b"[]"),
        ("a text", b'"x"'),
        ("a number", b"1"),
        ("null", b"null"),
        ("nothing", b" "),
        ("no UTF-8", b"\xff{}"),
        ("nested", DEEP),
        ("nested objects", b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        ("5000 digits", b'{"a":%s}' % LONG.encode()),
        ("pickle", b"\x80\x02cos\nsystem\n"),
        ("HTML", b"<!DOCTYPE html><html>404</html>"),
    ):
        yield case(f"header is {what}", safetensors(text, data))
    yield case("trailing bytes", content + b"x")
    yield case(
        "a name twice", safetensors(json.dumps(header)[:-1].encode() + f',"{name}":{json.dumps(good)}}}'.encode(), data)
    )
    wrong: dict[str, tuple] = {
        "dtype": ("", "F33", "__class__", 5, None, [], {}, "f32", "F4"),
        "shape": (
            None,
            "12",
            5,
            {},
            [12],
            [8, 12, 2],
            [-1, 8],
            [12.0, 8],
            ["12", 8],
            [True, 96],
            [None],
            [2**62, 2**62, 0],
            [2**63, 8],
            [10**30],
            [1] * 65,
            [[12], 8],
            [2**40, 2**40],
            [9, 8],
        ),
        "data_offsets": (
            None,
            [],
            [0],
            [0, 1, 2],
            "ab",
            [8, 0],
            [-8, 8],
            [0.0, 384.0],
            [2**62, 2**62 + 384],
            [None, 1],
            [0, 384],
            [good["data_offsets"][0] + 4, good["data_offsets"][1] + 4],
            [10**30, 10**30],
            {},
        ),
    }
    for key, values in wrong.items():
        for value in values:
            yield case(f"{key} {str(value)[:40]}", safetensors(header | {name: good | {key: value}}, data))
        yield case(f"without {key}", safetensors(header | {name: {k: v for k, v in good.items() if k != key}}, data))
    for value in (5, None, "x", [], True):
        yield case(f"a tensor that is {value!r}", safetensors(header | {name: value}, data))
    for strange in ESCAPES:
        other = {strange if key == name else key: value for key, value in header.items()}
        yield case(f"a tensor called {strange!a}", safetensors(other, data))
    for strange in (
        "<img src=x onerror=alert(1)>",
        "=cmd|'/c calc'!A1",
        "[bold red]x[/]",
        "../../x",
        "n" * 100_000,
        "",
        "model.layers." + LONG + ".mlp.up_proj.weight",
        "model.layers.7.mlp.up_proj.weight",
    ):
        other = {strange if key == name else key: value for key, value in header.items()}
        yield case(f"a tensor called {strange[:30]!a}", safetensors(other, data))
    for missing in (name, "model.embed_tokens.weight", f"{BLOCK}.self_attn.q_proj.weight"):
        yield case(f"a hole for {missing}", safetensors({k: v for k, v in header.items() if k != missing}, data))
    many = {f"x{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(20_000)}
    yield case("20,000 names of nothing", safetensors(many))
    empty = {key: {"dtype": "F32", "shape": [2**50, 0], "data_offsets": [0, 0]} for key in header}
    yield case("2^50 rows of nothing", safetensors(empty))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123\n"
    yield case("a git-lfs pointer", pointer)


def indexes() -> Iterator[Case]:
    model = VALID["sharded_model"]()
    index = json.loads(model["model.safetensors.index.json"])
    names = list(index["weight_map"])

    def case(what: str, content: bytes) -> Case:
        return f"index: {what}", "sharded_model", model | {"model.safetensors.index.json": content}

    for shard in (*OUTSIDE, "c.safetensors", "config.json", "model.safetensors.index.json", "/dev/zero", "b.bin"):
        yield case(f"shard {shard[:40]!a}", as_json(index | {"weight_map": index["weight_map"] | {names[0]: shard}}))
    for value in (5, None, True, [], {}, "x", [1], {"a": 1}, {"a": None}, {"a": ["b"]}, {"a": {}}):
        yield case(f"weight_map is {value!r}", as_json({"weight_map": value}))
    for what, content in (
        ("nothing", b""),
        ("a list", b"[]"),
        ("null", b"null"),
        ("without weight_map", b"{}"),
        ("no UTF-8", b"\xff"),
        ("NUL", b"\x00"),
        ("nested", b'{"weight_map":' + DEEP + b"}"),
        ("5000 digits", b'{"weight_map":%s}' % LONG.encode()),
        ("cut", as_json(index)[:-9]),
    ):
        yield case(what, content)
    swapped = dict(zip(names, reversed(index["weight_map"].values()), strict=True))
    yield case("shards swapped", as_json({"weight_map": swapped}))
    yield case("a tensor that is in no shard", as_json({"weight_map": index["weight_map"] | {"x": "a.safetensors"}}))
    yield "index: a shard is missing", "sharded_model", {k: v for k, v in model.items() if k != "b.safetensors"}
    yield "index: one shard twice", "sharded_model", model | {"b.safetensors": model["a.safetensors"]}
