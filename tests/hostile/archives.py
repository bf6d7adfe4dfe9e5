"""Bad PyTorch files: code, lies about sizes, damage."""

import zipfile
from collections.abc import Iterator
from io import BytesIO

from hostile.lies import LONG, Case
from hostile.valid import VALID


def archive(pickle: bytes, *, compress: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    """A PyTorch file with this pickle; members: further ones, by name."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", compress) as made:
        for name, content in ({"data.pkl": pickle, "byteorder": b"little", "version": b"3\n"} | members).items():
            made.writestr(f"archive/{name}", content)
    return stream.getvalue()


# torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, OrderedDict()) in a dictionary.
TENSOR = (
    "}}X\x01\x00\x00\x00aq\x00ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
    "X\x03\x00\x00\x00cpu{count}tQ{offset}{shape}{strides}\x89ccollections\nOrderedDict\n)RtRs."
)


def tensor_pickle(
    count: int = 4, offset: int = 0, shape: tuple[int, ...] = (4,), strides: tuple[int, ...] = (1,)
) -> bytes:
    def number(value: int) -> str:
        size = value.bit_length() // 8 + 1
        return "\x8a" + chr(size) + value.to_bytes(size, "little", signed=True).decode("latin-1")

    def numbers(values: tuple[int, ...]) -> str:
        return "(" + "".join(map(number, values)) + "t"

    filled = TENSOR.format(count=number(count), offset=number(offset), shape=numbers(shape), strides=numbers(strides))
    return b"\x80\x02" + filled.encode("latin-1")


def pickles() -> Iterator[Case]:
    model = VALID["pytorch_model"]()
    whole = model["pytorch_model.bin"]

    def case(what: str, content: bytes) -> Case:
        return f"pickle: {what}", "pytorch_model", model | {"pytorch_model.bin": content}

    data = {"data/0": b"\0" * 16}
    for what, code in (
        ("os.system", b"cos\nsystem\n(X\x04\x00\x00\x00truetR."),
        ("eval", b"cbuiltins\neval\n(X\x01\x00\x00\x001tR."),
        ("exec", b"c__builtin__\nexec\n(X\x01\x00\x00\x001tR."),
        ("getattr", b"cbuiltins\ngetattr\n(K\x01X\x04\x00\x00\x00realtR."),
        ("subprocess", b"csubprocess\nPopen\n(X\x04\x00\x00\x00truetR."),
        ("torch.load", b"ctorch\nload\n(X\x01\x00\x00\x00xtR."),
        ("torch.hub", b"ctorch.hub\nload\n(X\x01\x00\x00\x00xtR."),
        ("numpy", b"cnumpy\nload\n(X\x01\x00\x00\x00xtR."),
        ("INST", b"(X\x04\x00\x00\x00trueios\nsystem\n."),
        ("OBJ", b"(cos\nsystem\nX\x04\x00\x00\x00trueo."),
        ("BUILD", b"cos\nsystem\n}b."),
        ("a nested pickle", b"cpickle\nloads\n(X\x01\x00\x00\x00xtR."),
        ("pip", b"cpip\nmain\n(lR."),
        ("importlib", b"cimportlib\nimport_module\n(X\x02\x00\x00\x00ostR."),
        ("EXT1", b"\x82\x01."),
        ("STACK_GLOBAL", b"\x8c\x02os\x8c\x06system\x93)R."),
    ):
        yield case(what, archive(b"\x80\x02" + code, **data))
    for what, code in (
        ("nothing", b""),
        ("no end", b"\x80\x02}"),
        ("protocol 255", b"\x80\xff}."),
        ("a text of 4 GB", b"\x80\x02X\xff\xff\xff\xffa."),
        ("bytes of 2^62", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x3fa."),
        ("a number of 2 GB", b"\x80\x02\x8b\xff\xff\xff\x7fa."),
        ("an empty stack", b"\x80\x02R."),
        ("an unknown memo", b"\x80\x02h\x07."),
        ("a frame of 2^62", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x3f}."),
        ("marks", b"\x80\x02" + b"(" * 100_000 + b"."),
        ("a number of 5000 digits", b"\x80\x02I" + LONG.encode() + b"\n."),
        ("a list in itself", b"\x80\x02]q\x00h\x00a."),
        ("a dictionary in itself", b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."),
        ("a list", b"\x80\x02]."),
        ("an empty dictionary", b"\x80\x02}."),
        ("a persistent id", b"\x80\x02X\x01\x00\x00\x00xQ."),
        ("a persistent number", b"\x80\x02K\x05Q."),
        ("a short persistent id", b"\x80\x02(X\x07\x00\x00\x00storagetQ."),
        ("deep lists", b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."),
    ):
        yield case(what, archive(code, **data))
    for what, pickle in (
        ("2^40 elements", tensor_pickle(count=1 << 40)),
        ("-4 elements", tensor_pickle(count=-4)),
        ("an offset of 2^60", tensor_pickle(offset=1 << 60)),
        ("an offset below 0", tensor_pickle(offset=-1)),
        ("a shape beyond", tensor_pickle(shape=(5,))),
        ("a shape of 2^62", tensor_pickle(shape=(1 << 62, 4), strides=(1, 1))),
        ("a shape below 0", tensor_pickle(shape=(-1,))),
        ("strides below 0", tensor_pickle(strides=(-1,))),
        ("strides of 2^62", tensor_pickle(strides=(1 << 62,))),
        ("more strides", tensor_pickle(strides=(1, 1))),
        ("2^40 times one element", tensor_pickle(shape=(1 << 40,), strides=(0,))),
        ("2^20 x 2^20 of one", tensor_pickle(shape=(1 << 20, 1 << 20), strides=(0, 0))),
        ("2^50 rows of nothing", tensor_pickle(shape=(1 << 50, 0), strides=(1, 1))),
        ("10,000 dimensions", tensor_pickle(shape=(1,) * 10_000, strides=(1,) * 10_000)),
    ):
        yield case(f"a tensor of {what}", archive(pickle, **data))
    yield case("no storage", archive(tensor_pickle()))
    yield case("a storage of another size", archive(tensor_pickle(), **{"data/0": b"\0" * 12}))
    yield case(
        "a storage elsewhere",
        archive(tensor_pickle().replace(b"X\x01\x00\x00\x000", b"X\x09\x00\x00\x00../../../"), **data),
    )
    yield case("compressed", archive(tensor_pickle(), compress=zipfile.ZIP_DEFLATED, **data))
    yield case("a bomb", archive(tensor_pickle(), compress=zipfile.ZIP_DEFLATED, **{"data/0": bytes(1 << 24)}))
    yield case("big-endian", archive(tensor_pickle(), byteorder=b"big", **data))
    yield case("TorchScript", archive(tensor_pickle(), **{"constants.pkl": b"\x80\x02)."}, **data))
    yield case("a byte order of 16 MB", archive(b"\x80\x02}.", byteorder=bytes(1 << 24)))
    yield case("a plain ZIP", archive(b"").replace(b"data.pkl", b"data.txt"))
    yield case("the format of before 1.6", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
    yield case("a bare pickle of os.system", b"\x80\x02cos\nsystem\n(S'true'\ntR.")
    yield case("a TAR file", b"ustar" * 100)
    for size in (0, 1, 4, 30, len(whole) // 2, len(whole) - 1, len(whole) - 22):
        yield case(f"cut to {size} bytes", whole[:size])
