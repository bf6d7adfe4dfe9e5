"""The message of an error, whatever the names in it are."""

import pickle

import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.families.registry import tensor_list


def test_a_message_says_what_where_and_what_to_do():
    error = AtlasError("the shard is truncated", where="model.safetensors", remedy="download it again")
    text = "the shard is truncated\n  where: model.safetensors\n  what to do: download it again"
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("safe\rerror", r"safe\rerror"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("line\u2028end", r"line\u2028end"),
        ("\udcff", r"\udcff"),
        ("modèle 模型 نموذج", "modèle 模型 نموذج"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_escapes(name, shown):
    error = AtlasError(f"tensor {name} is damaged", where=f"folder/{name}", remedy=f"remove {name}")
    assert str(error) == f"tensor {shown} is damaged\n  where: folder/{shown}\n  what to do: remove {shown}"
    str(error).encode("utf-8")


def test_a_name_cannot_pass_for_a_part_of_the_message():
    error = AtlasError("no tensor a\n  what to do: run this", where="x\nerror: y", remedy="none")
    assert str(error).splitlines() == [
        "no tensor a", "      what to do: run this", "  where: x", "    error: y", "  what to do: none",
    ]  # fmt: skip


def test_endless_names_are_cut_and_lists_of_tensors_kept():
    assert len(str(AtlasError("x" * 100_000))) < 2100
    listed = tensor_list(["a.0.w", "a.1.w", "b"])
    assert str(AtlasError(f"unknown:\n{listed}")) == "unknown:\n    a.N.w  (2 times)\n    b"
