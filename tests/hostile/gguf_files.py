"""Bad GGUF files."""

import struct
from collections.abc import Iterator

from hostile.lies import Case
from hostile.valid import VALID


def gguf(
    fields: bytes = b"", tensors: bytes = b"", counts: tuple[int, int] | None = None, *, version: int = 3
) -> bytes:
    number = counts or (1 if tensors else 0, 1 if fields else 0)
    return b"GGUF" + struct.pack("<IQQ", version, *number) + fields + tensors


def field(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def info(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0, dimensions: int | None = None) -> bytes:
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    count = len(shape) if dimensions is None else dimensions
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", count) + sizes + struct.pack("<IQ", kind, offset)


def gguf_files() -> Iterator[Case]:
    whole = VALID["gguf_model"]()["model.gguf"]

    def case(what: str, content: bytes) -> Case:
        return f"gguf: {what}", "gguf_model", {"model.gguf": content}

    for tensors, fields in ((1 << 62, 0), (0, 1 << 62), (1 << 40, 1 << 40), (100 << 30, 1), (2**64 - 1, 2**64 - 1)):
        yield case(
            f"{tensors} tensors and {fields} fields", whole[:8] + struct.pack("<QQ", tensors, fields) + whole[24:]
        )
    for size in (0, 3, 4, 8, 23, 24, 40, len(whole) // 4, len(whole) // 2, len(whole) - 1):
        yield case(f"cut to {size} bytes", whole[:size])
    for version in (0, 1, 99, 0x03000000):
        yield case(f"version {version}", gguf(version=version))
    text = field(b"general.name", 8, struct.pack("<Q", 1 << 62) + b"a")
    yield case("a text of 2^62 bytes", gguf(text))
    yield case("a name of 2^62 bytes", gguf(struct.pack("<Q", 1 << 62) + b"a"))
    for kind in (0, 4, 7, 8, 9, 10, 12):
        for count in (1 << 30, 1 << 62, 2**64 - 1):
            yield case(f"an array of {count} of type {kind}", gguf(field(b"a", 9, struct.pack("<IQ", kind, count))))
    yield case("arrays in arrays", gguf(field(b"a", 9, struct.pack("<IQ", 9, 1) * 20_000)))
    yield case("an unknown type", gguf(field(b"a", 99, b"\0" * 8)))
    yield case("a name that is no UTF-8", gguf(field(b"\xff\xfe", 4, b"\0" * 4)))
    yield case("a text that is no UTF-8", gguf(field(b"general.name", 8, struct.pack("<Q", 2) + b"\xff\xfe")))
    yield case(
        "an architecture of numbers", gguf(field(b"general.architecture", 9, struct.pack("<IQ", 4, 1) + b"\0" * 4))
    )
    for alignment in (0, 3, 2**31, 2**32 - 1):
        yield case(
            f"an alignment of {alignment}",
            gguf(field(b"general.alignment", 4, struct.pack("<I", alignment)), info(b"a", (4,))),
        )
    yield case(
        "an alignment that is a text",
        gguf(field(b"general.alignment", 8, struct.pack("<Q", 1) + b"x"), info(b"a", (4,))),
    )
    twice = field(b"a.b", 4, b"\0" * 4) * 2
    yield case("a field twice", gguf(twice, counts=(0, 2)))
    for what, tensor in (
        ("2^62 columns", info(b"a", (1 << 62,))),
        ("2^40 x 2^40", info(b"a", (1 << 40, 1 << 40))),
        ("no type", info(b"a", (4,), kind=999)),
        ("a billion dimensions", info(b"a", (4,), dimensions=1 << 30)),
        ("9 dimensions", info(b"a", (1,) * 9)),
        ("an offset of 2^62", info(b"a", (4,), offset=1 << 62)),
        ("2^64 - 32 as offset", info(b"a", (4,), offset=2**64 - 32)),
        ("half a block", info(b"a", (5,), kind=8)),
        ("100 GB", info(b"a", (100 << 28,))),
        ("no name", info(b"", (4,))),
        ("an escape", info(b"\x1b[31m", (4,))),
        ("no UTF-8", info(b"\xff", (4,))),
        ("2^50 rows of nothing", info(b"a", (0, 1 << 50))),
    ):
        yield case(f"a tensor of {what}", gguf(tensors=tensor) + b"\0" * 64)
    one = info(b"a", (4,))
    yield case("two tensors of one name", gguf(tensors=one * 2, counts=(2, 0)) + b"\0" * 64)
    many = b"".join(info(b"t%05d" % number, (1 << 12,)) for number in range(2_000))
    yield case("2,000 tensors of the same data", gguf(tensors=many, counts=(2_000, 0)) + b"\0" * (1 << 15))
