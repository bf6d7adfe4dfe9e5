"""The files beside the weights of two models, field by field: configurations, tokenizer, chat template."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.artifacts import read_json
from weight_atlas.errors import AtlasError

COLUMNS = ["file", "field", "change", "value_a", "value_b"]
FIELDWISE = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "adapter_config.json",
    "added_tokens.json", "preprocessor_config.json",
)  # fmt: skip
TEMPLATE = "chat_template"
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
# Files of a tokenizer that are compared as a whole, where their content says the same in another order of bytes.
WHOLE = ("tokenizer.model", "spiece.model", "merges.txt", "vocab.txt", "vocab.json")
# What only tells which program wrote a file.
UNTOLD = ("transformers_version", "_name_or_path", "name_or_path")
LONGEST, SHOWN = 200, 10
MISSING = object()


def file_differences(a: Path, b: Path, configs: tuple[Mapping[str, Any], Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each field that differs between the files of two checkpoints' folders: COLUMNS.

    change: changed, only in a, only in b; of vocabularies and merges how many entries were added, removed or moved,
    with the first of them as values. configs: the configurations as checkpoints give them, of GGUF files too.
    Files and fields that are alike, and those that only tell which program wrote them, give no row.
    """
    rows = list(_fields("config.json", *map(_plain, configs)))
    for name in FIELDWISE[1:]:
        one, other = (_content(folder / name) for folder in (a, b))
        if name == "tokenizer_config.json":
            one, other = ({k: v for k, v in each.items() if k != TEMPLATE} for each in (one, other))
        rows += _fields(name, one, other)
    rows += _tokenizers(_content(a / "tokenizer.json"), _content(b / "tokenizer.json"))
    rows += _templates(_template(a), _template(b))
    rows += [row for name in WHOLE for row in _whole(name, a / name, b / name)]
    return pd.DataFrame(rows, columns=COLUMNS).astype(str)


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise AtlasError(f"{path.name} holds no JSON object", where=path, remedy="restore the file")
    return content


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(config), default=str))


def _fields(file: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Every field in which two objects differ, by its dotted name."""
    first, second = dict(_flat(one)), dict(_flat(other))
    for field in dict.fromkeys([*first, *second]):
        a, b = first.get(field, MISSING), second.get(field, MISSING)
        if field.split(".")[-1] in UNTOLD or (a == b and type(a) is type(b)):
            continue
        change = "only in b" if a is MISSING else "only in a" if b is MISSING else "changed"
        yield _row(file, field, change, a, b)


def _flat(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of what is no object; lists are values."""
    if isinstance(content, Mapping) and (content or name):
        if not content:
            yield name, {}
        for key, value in content.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, content


def _row(file: str, field: str, change: str, a: Any, b: Any) -> dict[str, str]:
    row = {"file": file, "field": field, "change": change, "value_a": _written(a), "value_b": _written(b)}
    # JSON may hold halves of characters, which a table cannot.
    return {name: text.encode("utf-8", "backslashreplace").decode() for name, text in row.items()}


def _written(value: Any) -> str:
    if value is MISSING:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"


def _tokenizers(one: dict[str, Any], other: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Vocabulary, merges and added tokens as sets, all else of tokenizer.json field by field."""
    if not one or not other:
        if one or other:
            yield _row("tokenizer.json", "", "only in a" if one else "only in b", "", "")
        return
    yield from _sets("vocabulary", _vocabulary(one), _vocabulary(other))
    yield from _sets("merges", _merges(one), _merges(other))
    yield from _sets("added_tokens", _added(one), _added(other))
    for field in dict.fromkeys([*one, *other]):
        if field in ("added_tokens",):
            continue
        a, b = (each.get(field, MISSING) for each in (one, other))
        if field == "model":
            a, b = (
                {key: value for key, value in (each or {}).items() if key not in ("vocab", "merges")} for each in (a, b)
            )
        yield from _fields("tokenizer.json", *({} if each is MISSING else {field: each} for each in (a, b)))


def _vocabulary(content: dict[str, Any]) -> dict[str, int]:
    stored = (content.get("model") or {}).get("vocab") or {}
    if isinstance(stored, dict):
        return stored
    return {str(entry[0]): number for number, entry in enumerate(stored)}  # Unigram: pairs of token and score


def _merges(content: dict[str, Any]) -> dict[str, int]:
    stored = (content.get("model") or {}).get("merges") or []
    return {merge if isinstance(merge, str) else " ".join(merge): rank for rank, merge in enumerate(stored)}


def _added(content: dict[str, Any]) -> dict[str, int]:
    return {
        str(token.get("content")): int(token.get("id") or 0)
        for token in content.get("added_tokens") or []
        if isinstance(token, dict)
    }


def _sets(field: str, one: Mapping[str, int], other: Mapping[str, int]) -> Iterator[dict[str, str]]:
    """What was added, removed, and given another number."""
    gone = [name for name in one if name not in other]
    new = [name for name in other if name not in one]
    moved = [name for name in one if name in other and one[name] != other[name]]
    if new:
        yield _row("tokenizer.json", field, f"{len(new):,} added", "", _first(new))
    if gone:
        yield _row("tokenizer.json", field, f"{len(gone):,} removed", _first(gone), "")
    if moved:
        numbers = [[f"{name} {side[name]}" for name in moved] for side in (one, other)]
        yield _row("tokenizer.json", field, f"{len(moved):,} at another place", _first(numbers[0]), _first(numbers[1]))


def _first(names: list[str]) -> str:
    return _written(names[:SHOWN] + (["..."] if len(names) > SHOWN else []))


def _template(folder: Path) -> str:
    """The chat template, of a file of its own or of tokenizer_config.json; several by name as one text."""
    for name in TEMPLATE_FILES:
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
            return json.dumps(_content(folder / name)) if name.endswith(".json") else text
    stored = _content(folder / "tokenizer_config.json").get(TEMPLATE) or ""
    return stored if isinstance(stored, str) else json.dumps(stored, indent=1)


def _templates(one: str, other: str) -> Iterator[dict[str, str]]:
    if one == other:
        return
    lines = one.splitlines(), other.splitlines()
    only = [[line for line in side if line not in set(lines[1 - number])] for number, side in enumerate(lines)]
    change = (
        "only in b" if not one else "only in a" if not other else f"{len(only[0]):,} lines gone, {len(only[1]):,} new"
    )
    yield _row("chat template", "", change, "\n".join(only[0][:SHOWN]), "\n".join(only[1][:SHOWN]))


def _whole(name: str, a: Path, b: Path) -> Iterator[dict[str, str]]:
    there = a.is_file(), b.is_file()
    if there == (True, True):
        if a.read_bytes() != b.read_bytes():
            yield _row(name, "", "changed", f"{a.stat().st_size:,} bytes", f"{b.stat().st_size:,} bytes")
    elif any(there):
        yield _row(name, "", "only in a" if there[0] else "only in b", "", "")


def told_of_files(differences: pd.DataFrame) -> str:
    """One sentence on what differs beside the weights; "" where nothing does."""
    if differences.empty:
        return ""
    counts = differences.groupby("file", sort=False).size()
    words = []
    for file, count in counts.items():
        rows = differences[differences["file"] == file]
        fields = [row.field or row.change for row in rows.itertuples()]
        more = f" and {count - 3} more" if count > 3 else ""
        words.append(f"{file} ({', '.join(fields[:3])}{more})")
    return f"Beside the weights, these differ: {'; '.join(words)}."
