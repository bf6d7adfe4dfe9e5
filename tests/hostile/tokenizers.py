"""Bad tokenizers."""

import json
from collections.abc import Iterator

from hostile.lies import NO_OBJECTS, Case
from hostile.valid import VALID
from hostile.valid_models import as_json


def tokenizers() -> Iterator[Case]:
    files = VALID["tokenizer"]()
    made = json.loads(files["tokenizer.json"])

    def case(what: str, name: str, content: bytes) -> Case:
        return f"{name}: {what}", "tokenizer", files | {name: content}

    for name in ("tokenizer.json", "tokenizer_config.json"):
        for what, content in (
            *NO_OBJECTS,
            ("a number", b"5"),
            ("a git-lfs pointer", b"version https://git-lfs.github.com/spec/v1\n"),
        ):
            yield case(what, name, content)
    model = made["model"]
    for key, values in (
        ("model", (None, 5, [], {}, {"type": "Strange"}, {"type": "BPE"})),
        (
            "normalizer",
            (
                5,
                {"type": "Strange"},
                {"type": "Replace"},
                {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
            ),
        ),
        (
            "pre_tokenizer",
            (
                5,
                {"type": "Strange"},
                {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False},
            ),
        ),
        ("decoder", (5, {"type": "Strange"})),
        ("added_tokens", (5, [5], [{"id": -1, "content": "x"}], [{"id": 0}], {})),
        ("post_processor", (5, {"type": "Strange"}, {"type": "TemplateProcessing"})),
        ("version", (5, "9.9")),
    ):
        for value in values:
            yield case(f"{key} {str(value)[:40]}", "tokenizer.json", as_json(made | {key: value}))
    for key, values in (
        ("vocab", (None, 5, [], ["a"], {"a": "b"}, {"a": -1}, {"a": 1.5}, {"a": 2**40})),
        ("merges", (5, ["a"], [["a"]], [["a", "zz"]], [5], {})),
        ("unk_token", (5, [])),
    ):
        for value in values:
            yield case(
                f"model.{key} {str(value)[:40]}", "tokenizer.json", as_json(made | {"model": model | {key: value}})
            )
    # Ids beyond all vocabularies: a table of all ids would take gigabytes.
    for number in (2**28, 2**31, 2**32 - 1):
        yield case(
            f"a token of id {number}",
            "tokenizer.json",
            as_json(made | {"model": model | {"vocab": model["vocab"] | {"far": number}}}),
        )
    grown = {
        "type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 5,
    }
    yield case("a normalizer that multiplies texts", "tokenizer.json", as_json(made | {"normalizer": grown}))
    grown = {
        "type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": {"Regex": "."}, "content": "ab" * 10}] * 8,
    }
    yield case("a normalizer that multiplies characters", "tokenizer.json", as_json(made | {"normalizer": grown}))
    settings = json.loads(files["tokenizer_config.json"])
    for key, values in (
        ("added_tokens_decoder", (5, "x", [5], {"x": {"content": "y"}}, {"0": 5}, {"0": {"content": 5}})),
        ("bos_token", (5, [5], {"content": 5})),
    ):
        for value in values:
            yield case(f"{key} {value!r}", "tokenizer_config.json", as_json(settings | {key: value}))
    yield case(
        "a token of id 2^32 - 1",
        "tokenizer_config.json",
        as_json(settings | {"added_tokens_decoder": {str(2**32 - 1): {"content": "far"}}}),
    )
    ranks = b"IQ== 0\nIg== 1\n"
    for what, content in (
        ("nothing", b""),
        ("no base 64", b"!!!! 0\n"),
        ("no number", b"IQ== x\n"),
        ("a far id", b"IQ== 4294967295\n"),
        ("a long line", b"I" * 10_000_000),
        ("no UTF-8", b"\xff\xfe"),
        ("alone", ranks),
    ):
        yield f"tiktoken: {what}", "tokenizer", {"qwen.tiktoken": content}
    piece = VALID["sentencepiece"]()["tokenizer.model"]
    for what, content in (
        ("nothing", b""),
        ("cut", piece[: len(piece) // 2]),
        ("zeros", b"\0" * 100),
        ("a text", b"no model at all"),
        ("JSON", b"{}"),
        ("a length of 2^62", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x3f" + piece[2:]),
        ("a piece that is no UTF-8", piece.replace("\N{LOWER ONE EIGHTH BLOCK}".encode(), b"\xe2\x96\xff", 1)),
    ):
        yield f"tokenizer.model: {what}", "sentencepiece", {"tokenizer.model": content}


def slow_patterns() -> Iterator[Case]:
    """Patterns that take for ever over an ordinary text."""
    files = VALID["tokenizer"]()
    made = json.loads(files["tokenizer.json"])
    for pattern in (r"(([a-z ])+.)+[A-Z]([a-z])+$", r"(\w+\s?)+\d"):
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        yield f"slow {pattern}", "tokenizer", files | {"tokenizer.json": as_json(made | {"pre_tokenizer": split})}
        replace = {"type": "Replace", "pattern": {"Regex": pattern}, "content": "x"}
        yield (
            f"slow replace {pattern}",
            "tokenizer",
            files | {"tokenizer.json": as_json(made | {"normalizer": replace})},
        )
