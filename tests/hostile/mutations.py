"""Valid content made bad: bytes anywhere, and values in the structure of JSON."""

import json
import random
import struct
from typing import Any

# Put in place of a number, a text, a list or an object.
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    3,
    127,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**30,
    1e308,
    -1e308,
    1e-300,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "0",
    "128",
    "auto",
    "\x1b[31mred\x1b[0m",
    "[bold red]x[/]",
    "\u202eevil",
    "\x00",
    "../../etc/passwd",
    "/dev/zero",
    "<script>alert(1)</script>",
    "=1+1",
    "\ud800",
    "a" * 5000,
    "{x}",
    "__class__",
    [],
    {},
    [[]],
    [None],
    ["x"],
    [-1],
    [2**63],
    [1] * 70,
    [0, 0],
    [2**62, 2**62, 0],
    {"a": 1},
    {"x": {"y": []}},
)
_DEEP = "[" * 60_000 + "]" * 60_000
_LONG = "9" * 5000
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x1B, 0x0A, 0x22, 0x7B)


def mutated(content: bytes, name: str, random: random.Random) -> bytes:
    """Content of a file with one to three mistakes; of JSON and safetensors headers mostly in their values."""
    if name.endswith(".json") and random.random() < 0.8:
        return _json(content, random)
    if name.endswith(".safetensors") and random.random() < 0.6:
        (length,) = struct.unpack("<Q", content[:8])
        header = _json(content[8 : 8 + length], random)
        return struct.pack("<Q", len(header)) + header + content[8 + length :]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = _bytes(content, random)
    return content


def _bytes(content: bytes, random: random.Random) -> bytes:
    place = _place(len(content), random)
    match random.randrange(9):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + bytes([random.choice(_INTERESTING)]) + content[place + 1 :]
        case 2:
            return (
                content[:place]
                + bytes([content[place] ^ 1 << random.randrange(8) if content else 0])
                + content[place + 1 :]
            )
        case 3:
            number = random.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**62, 2**64 - 1, 100 << 30))
            size = random.choice((4, 8))
            return content[:place] + (number & (1 << 8 * size) - 1).to_bytes(size, "little") + content[place + size :]
        case 4:
            return content[:place] + random.randbytes(random.randrange(1, 40)) + content[place:]
        case 5:
            return content[:place] + content[place + random.randrange(1, 64) :]
        case 6:
            length = random.randrange(1, 200)
            return content[:place] + content[place : place + length] * 2 + content[place + length :]
        case 7:
            return content[:place] + bytes([random.choice(_INTERESTING)]) * random.randrange(1, 64) + content[place:]
        case _:
            return content + random.randbytes(random.randrange(1, 64))


def _place(size: int, random: random.Random) -> int:
    """A place in a file, more often near its beginning and its end, where headers and directories are."""
    near = min(size, 256)
    return (
        random.choice(
            (random.randrange(max(1, size)), random.randrange(max(1, near)), size - 1 - random.randrange(max(1, near)))
        )
        if size
        else 0
    )


def _json(content: bytes, random: random.Random) -> bytes:
    value = json.loads(content)
    for _ in range(random.choice((1, 1, 2))):
        value = _changed(value, random)
    text = json.dumps(value)
    match random.randrange(20):
        case 0:
            text = text.replace('"@"', _DEEP, 1).replace("null", _DEEP, 1)
        case 1:
            text = text.replace("0", _LONG, 1)
    return text.encode()


def _changed(value: Any, random: random.Random) -> Any:
    """A value with one place in it changed, removed or doubled."""
    if isinstance(value, dict) and value and random.random() < 0.93:
        key = random.choice(list(value))
        match random.randrange(8):
            case 0:
                return {name: each for name, each in value.items() if name != key}
            case 1:
                other = random.choice([each for each in VALUES if isinstance(each, str)])
                return {other if name == key else name: each for name, each in value.items()}
            case 2:
                return value | {random.choice(list(value)): value[key]}
            case _:
                return value | {key: _changed(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        match random.randrange(4):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value[:place], value[place], *value[place:]]
            case _:
                return [*value[:place], _changed(value[place], random), *value[place + 1 :]]
    return random.choice(VALUES)
