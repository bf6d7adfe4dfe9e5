"""What bad inputs of several kinds are made of."""

import json
import struct
from typing import Any

from hostile.valid_models import Files

Case = tuple[str, str, Files]  # name, kind of input, files
DEEP = b"[" * 100_000 + b"]" * 100_000
# What stands where an object of JSON should.
NO_OBJECTS = (("nothing", b""), ("a list", b"[]"), ("null", b"null"), ("no UTF-8", b"\xff"), ("nested", DEEP))
LONG = "9" * 5000


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def taken_apart(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]
