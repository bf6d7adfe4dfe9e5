"""Bad weights of tokens: arrays, tables, sparse tables, and the names of columns."""

import io
import struct
from collections.abc import Iterator

import numpy as np
from hostile.lies import DEEP, LONG, Case, safetensors
from hostile.valid import VALID


def npy(header: str, data: bytes = b"", length: int | None = None) -> bytes:
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) if length is None else length) + text + data


def token_weights() -> Iterator[Case]:
    good = VALID["weights_npy"]()["w.npy"]

    def case(what: str, content: bytes) -> Case:
        return f"npy: {what}", "weights_npy", {"w.npy": content}

    for size in (0, 1, 6, 8, 10, 40, len(good) - 1):
        yield case(f"cut to {size} bytes", good[:size])
    for shape in (
        "(4294967296,)",
        "(4611686018427387904,)",
        "(1099511627776, 0)",
        "(4611686018427387904, 0)",
        "(-1,)",
        "5",
        "('a',)",
        "(2.5,)",
        "(16, 4294967296)",
        "()",
        "None",
        "(1,)*100",
        "(" * 500,
        "(" + LONG + ",)",
    ):
        yield case(
            f"shape {shape[:24]}", npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}", b"\0" * 128)
        )
    for kind in (
        "'O'",
        "'|O8'",
        "'<U4'",
        "'|V4000000000'",
        "'S5'",
        "'<M8[s]'",
        "[('a', '<f8')]",
        "'<c16'",
        "5",
        "'<f3'",
        "'__class__'",
        "[('a', 'O')]",
    ):
        yield case(f"type {kind}", npy(f"{{'descr': {kind}, 'fortran_order': False, 'shape': (16,)}}", b"\0" * 256))
    for what, header in (
        ("nothing", ""),
        ("a call", "__import__('os').system('true')"),
        ("a list", "[]"),
        ("nested", "[" * 5000),
        ("keys missing", "{'descr': '<f8'}"),
        ("an open text", "{'descr': '''"),
    ):
        yield case(f"header is {what}", npy(header))
    for version in (b"\x00\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"):
        yield case(f"version {version[0]}", good[:6] + version + good[8:])
    yield case("a header of 4 GB", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + good[10:])
    archive = io.BytesIO()
    np.savez_compressed(archive, a=np.zeros(1 << 20))
    yield case("an archive of arrays", archive.getvalue())
    yield case("a pickle", b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n(S'true'\ntR.")

    def tensors(what: str, header: dict, data: bytes, kind: str = "weights_safetensors") -> Case:
        return f"weights: {what}", kind, {"w.safetensors": safetensors(header, data)}

    def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    yield tensors("2^50 rows of nothing", {"token_weights": entry("F32", [2**50, 0], 0, 0)}, b"")
    yield tensors("2^40 columns of nothing", {"token_weights": entry("F32", [0, 2**40], 0, 0)}, b"")
    yield tensors("three dimensions", {"token_weights": entry("F32", [2, 2, 2], 0, 32)}, bytes(32))
    yield tensors("a number", {"token_weights": entry("F32", [], 0, 4)}, bytes(4))
    yield tensors("complex numbers", {"token_weights": entry("C64", [2, 2], 0, 32)}, bytes(32))
    yield tensors("no tensor", {}, b"")
    yield tensors("two tensors of other names", {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 4, 8)}, bytes(8))
    yield tensors(
        "two tensors of the name",
        {"a.token_weights": entry("F32", [1], 0, 4), "b.token_weights": entry("F32", [1], 4, 8)},
        bytes(8),
    )
    parts = ("rows", "columns", "values")
    for what, row, column in (
        ("row 2^31", 2**31, 0),
        ("row 2^62", 2**62, 0),
        ("row -1", -1, 0),
        ("column 2^31", 0, 2**31 - 2),
        ("column 2^62", 0, 2**62),
        ("column -1", 0, -1),
        ("both 2^30", 2**30, 2**30),
    ):
        header = {name: entry("I64", [1], 8 * place, 8 * place + 8) for place, name in enumerate(parts)}
        yield tensors(f"sparse, {what}", header, struct.pack("<qqq", row, column, 1), "weights_sparse")
    for what, shape in (
        ("2^40 x 2", (2**40, 2)),
        ("2 x 2^40", (2, 2**40)),
        ("2^31 x 2^31", (2**31, 2**31)),
        ("-1 x -1", (-1, -1)),
        ("0 x 0", (0, 0)),
    ):
        header = {name: entry("I64", [1], 8 * place, 8 * place + 8) for place, name in enumerate(parts)}
        header["shape"] = entry("I64", [2], 24, 40)
        yield tensors(f"sparse, of {what}", header, struct.pack("<qqqqq", 0, 0, 1, *shape), "weights_sparse")
    for what, lengths in (("one row less", (1, 2, 2)), ("no values", (2, 2, 0))):
        places = np.cumsum([0, *lengths]) * 8
        header = {name: entry("I64", [lengths[n]], int(places[n]), int(places[n + 1])) for n, name in enumerate(parts)}
        yield tensors(f"sparse, {what}", header, bytes(int(places[-1])), "weights_sparse")
    names = VALID["column_names"]()
    for what, content in (
        ("a number", b"5"),
        ("null", b"null"),
        ("numbers", b"[1, 2]"),
        ("no numbers", b'{"a": "b", "c": "d"}'),
        ("mixed", b'{"a": 1, "c": "d"}'),
        ("lists", b"[[1],[2]]"),
        ("one", b'["a"]'),
        ("nested", DEEP),
        ("no UTF-8", b"\xff"),
        ("half a character", b'["\\ud800", "b"]'),
        ("escapes", b'["\\u001b[31m", "b"]'),
    ):
        yield f"names: {what}", "column_names", names | {"names.json": content}
