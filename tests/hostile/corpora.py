"""Bad texts."""

import io
import json
import struct
from collections.abc import Iterator

from hostile.lies import DEEP, LONG, Case
from hostile.valid import VALID


def corpora() -> Iterator[Case]:
    def case(kind: str, what: str, content: bytes) -> Case:
        (name,) = VALID[kind]()
        return f"{name}: {what}", kind, {name: content}

    for what, content in (
        ("nothing", b""),
        ("white space", b" \n\t"),
        ("no UTF-8", b"\xe9t\xe9"),
        ("UTF-16", "text".encode("utf-16")),
        ("half a character", b"a\xf0\x9f"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("an overlong NUL", b"\xc0\x80"),
        ("gzip", b"\x1f\x8b\x08" + b"\0" * 30),
        ("zstd", b"\x28\xb5\x2f\xfd" + b"\xff" * 30),
    ):
        yield case("text", what, content)
    good = VALID["json_lines"]()["c.jsonl"]
    for what, content in (
        ("nothing", b""),
        ("a list", b"[]\n"),
        ("a number", b"5\n"),
        ("null", b"null\n"),
        ("a text", b'"x"\n'),
        ("nested", DEEP + b"\n"),
        ("5000 digits", b'{"text": %s}\n' % LONG.encode()),
        ("no UTF-8", b'{"text": "\xe9t\xe9", "language": "x"}\n'),
        ("half a character", b'{"text": "\\ud800", "language": "x"}\n'),
        ("a group that is half a character", b'{"text": "x", "language": "\\ud800"}\n'),
        ("no such column", b'{"txt": "x"}\n'),
        ("a column of numbers", b'{"text": 5, "language": "x"}\n'),
        ("a column of lists", b'{"text": ["x"], "language": "x"}\n'),
        ("cut", good[:-9]),
        ("one object on lines", json.dumps({"text": "x"}, indent=1).encode()),
        ("gzip", b"\x1f\x8b\x08" + b"\0" * 30),
        ("NUL", b"\0" * 50),
        ("no group", b'{"text": "x"}\n'),
        ("two objects", b'{"text":"x","language":"a"}{"text":"y"}\n'),
        ("an empty text", b'{"text": "", "language": "x"}\n'),
        ("HTML", b"<html></html>\n"),
    ):
        yield case("json_lines", what, content)
    head = b"text,language,n\n"
    for what, content in (
        ("nothing", b""),
        ("a head", head),
        ("no such column", b"a,b\n1,2\n"),
        ("an open quote", head + b'"abc,de,1\n'),
        ("more cells", head + b"a,b,c,d\n"),
        ("no UTF-8", head + b"\xe9t\xe9,x,1\n"),
        ("a group that is no UTF-8", head + b"cafe,\xe9,1\n"),
        ("NUL", b"\0" * 50),
        ("a quote inside", head + b'"a"b,c,d\n'),
        ("UTF-16", "text,language\nx,y\n".encode("utf-16")),
        ("empty cells", head + b",,\n"),
        ("gzip", b"\x1f\x8b\x08" + b"\0" * 30),
        ("semicolons", b"text;language;n\nx;y;1\n"),
    ):
        yield case("csv_rows", what, content)
    good = VALID["parquet_rows"]()["c.parquet"]
    for size in (0, 3, 4, 8, 12, len(good) // 2, len(good) - 1, len(good) - 8):
        yield case("parquet_rows", f"cut to {size} bytes", good[:size])
    for claim in (0, 1, 2**31 - 1, 2**32 - 1):
        yield case("parquet_rows", f"a footer of {claim} bytes", good[:-8] + struct.pack("<I", claim) + b"PAR1")
    for what, content in (
        ("zeros inside", good[:4] + b"\0" * (len(good) - 8) + b"PAR1"),
        ("a zeroed footer", good[: len(good) // 2] + b"\0" * (len(good) - len(good) // 2 - 8) + good[-8:]),
    ):
        yield case("parquet_rows", what, content)
    for what, rows in (
        ("no such column", {"a": ["x"], "language": ["x"]}),
        ("numbers", {"text": [5], "language": ["x"]}),
        ("lists", {"text": [["x"]], "language": ["x"]}),
        ("bytes", {"text": [b"\xff"], "language": ["x"]}),
        ("no rows", {"text": [], "language": []}),
        ("nulls", {"text": [None], "language": [None]}),
        ("no group", {"text": ["x"]}),
    ):
        import pandas as pd

        stream = io.BytesIO()
        pd.DataFrame(rows).to_parquet(stream, index=False)
        yield case("parquet_rows", what, stream.getvalue())
